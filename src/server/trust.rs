//! Whose word about a client is taken: the proxies that the operator named.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The addresses and networks of TRUSTED_PROXIES. None by default: then nobody's word is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    unix: bool,
}

/// Elements that a list may have: far more than there are load balancers in front of one service. Every look walks them.
const ELEMENTS_MAX: usize = 64;

impl TrustedProxies {
    /// Nobody.
    pub const NONE: TrustedProxies = TrustedProxies {
        networks: Vec::new(),
        unix: false,
    };

    /// Reads a list: addresses, networks, and the words `loopback`, `private` (RFC 1918 and RFC 4193), `unix` and `*`
    /// (everybody), with commas between them.
    ///
    /// # Errors
    /// What is wrong with the first element that cannot be used, in words that follow the name of the variable.
    pub fn parse(text: &str) -> Result<TrustedProxies, String> {
        let mut trusted = TrustedProxies::NONE;
        for (count, element) in text.split(',').map(str::trim).enumerate() {
            if count >= ELEMENTS_MAX {
                return Err(format!("has more than {ELEMENTS_MAX} elements"));
            }
            trusted.add(element)?;
        }
        Ok(trusted)
    }

    fn add(&mut self, element: &str) -> Result<(), String> {
        let v4 = |a, b, c, d, bits| Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits).into();
        let v6 = |first, bits| Ipv6Net::new_assert(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0), bits).into();
        match element.to_ascii_lowercase().as_str() {
            "loopback" => self.networks.extend::<[IpNet; 2]>([
                v4(127, 0, 0, 0, 8),
                Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128).into(),
            ]),
            "private" => self.networks.extend::<[IpNet; 4]>([
                v4(10, 0, 0, 0, 8),
                v4(172, 16, 0, 0, 12),
                v4(192, 168, 0, 0, 16),
                v6(0xfc00, 7),
            ]),
            "unix" => self.unix = true,
            "*" => {
                self.networks.extend::<[IpNet; 2]>([v4(0, 0, 0, 0, 0), v6(0, 0)]);
                self.unix = true;
            }
            "" => return Err("has an empty element: two commas in a row, or one at an end".into()),
            _ => self.networks.push(network(element)?),
        }
        Ok(())
    }

    /// True if this address is a trusted proxy's. An IPv4 address in IPv6's clothes (`::ffff:a.b.c.d`) is the IPv4
    /// address.
    pub fn contains(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        self.networks.iter().any(|network| network.contains(&addr))
    }

    /// True if whoever connects to a Unix socket of the server is a trusted proxy.
    pub fn contains_unix(&self) -> bool {
        self.unix
    }

    /// True if nobody is trusted.
    pub fn is_none(&self) -> bool {
        self.networks.is_empty() && !self.unix
    }

    /// True if every client could be one.
    pub fn is_everybody(&self) -> bool {
        self.networks.iter().any(|network| network.prefix_len() == 0)
    }
}

/// An address, or a network in its canonical form.
fn network(element: &str) -> Result<IpNet, String> {
    let what = "is neither an address, nor a network such as 10.0.0.0/8, nor loopback, private, unix or *";
    let shown: String = element.chars().take(64).collect();
    if let Ok(addr) = element.parse::<IpAddr>() {
        return Ok(IpNet::from(addr.to_canonical()));
    }
    let network: IpNet = element.parse().map_err(|_| format!("has {shown:?}, which {what}"))?;
    if network.trunc() != network {
        // A slip in either half, and who is trusted must not hang on a guess.
        return Err(format!(
            "has {shown:?}, which has bits set behind its prefix; write {} or {}",
            network.trunc(),
            network.addr()
        ));
    }
    // A network of IPv4 addresses in IPv6's clothes: addresses are looked at without them.
    Ok(match network {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.addr().to_ipv4_mapped() {
            Some(v4) => Ipv4Net::new(v4, v6.prefix_len() - 96).map_or(network, IpNet::V4),
            None => network,
        },
        _ => network,
    })
}

impl fmt::Display for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let networks = self.networks.iter().map(|network| match network {
            network if network.prefix_len() == network.max_prefix_len() => network.addr().to_string(),
            network => network.to_string(),
        });
        let all: Vec<String> = networks.chain(self.unix.then(|| "unix".to_owned())).collect();
        f.write_str(&all.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn trusts(list: &str, addr: &str) -> bool {
        TrustedProxies::parse(list).unwrap().contains(addr.parse().unwrap())
    }

    #[test]
    fn addresses_networks_and_words() {
        for (list, yes, no) in [
            ("10.1.2.3", vec!["10.1.2.3", "::ffff:10.1.2.3"], vec!["10.1.2.4", "::"]),
            ("10.0.0.0/8", vec!["10.255.0.1"], vec!["11.0.0.0", "::1"]),
            (
                "2001:db8::/32, 192.0.2.7",
                vec!["2001:db8:9::1", "192.0.2.7"],
                vec!["2001:db9::", "192.0.2.8"],
            ),
            (
                "LOOPBACK",
                vec!["127.9.9.9", "::1", "::ffff:127.0.0.1"],
                vec!["128.0.0.1", "::2"],
            ),
            (
                "private",
                vec!["10.0.0.1", "172.31.0.1", "192.168.3.4", "fd00::1", "fc00::1"],
                vec!["172.32.0.1", "100.64.0.1", "fe80::1", "127.0.0.1", "169.254.0.1"],
            ),
            (
                "::ffff:10.0.0.0/104",
                vec!["10.2.3.4", "::ffff:10.2.3.4"],
                vec!["11.0.0.0"],
            ),
            ("::ffff:192.0.2.1", vec!["192.0.2.1"], vec!["192.0.2.2"]),
            ("*", vec!["8.8.8.8", "2001:db8::1"], vec![]),
            ("unix", vec![], vec!["127.0.0.1", "::1"]),
        ] {
            for addr in yes {
                assert!(trusts(list, addr), "{list} {addr}");
            }
            for addr in no {
                assert!(!trusts(list, addr), "{list} {addr}");
            }
        }
        assert!(TrustedProxies::parse("unix").unwrap().contains_unix());
        assert!(!TrustedProxies::parse("private,loopback").unwrap().contains_unix());
        assert!(TrustedProxies::parse("*").unwrap().is_everybody() && TrustedProxies::NONE.is_none());
        assert!(!TrustedProxies::NONE.contains("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_list_is_refused_with_the_reason() {
        for (list, why) in [
            ("10.0.0.1/8", "write 10.0.0.0/8 or 10.0.0.1"),
            ("10.0.0.0/33", "neither an address"),
            ("proxy.example", "neither an address"),
            ("10.0.0.1,,10.0.0.2", "empty element"),
            ("10.0.0.1,", "empty element"),
            ("fe80::1%eth0", "neither an address"),
            ("010.0.0.1", "neither an address"),
        ] {
            let said = TrustedProxies::parse(list).unwrap_err();
            assert!(said.contains(why), "{list}: {said}");
        }
        let many = vec!["10.0.0.1"; ELEMENTS_MAX + 1].join(",");
        assert!(TrustedProxies::parse(&many).unwrap_err().contains("more than"));
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(text in ".{0,80}") {
            if let Ok(trusted) = TrustedProxies::parse(&text) {
                // What it says of itself is what it is.
                prop_assert_eq!(TrustedProxies::parse(&trusted.to_string()).ok(), (!trusted.is_none()).then_some(trusted));
            }
        }

        #[test]
        fn a_network_holds_its_addresses_and_no_others(net: u32, bits in 0u8..=32, addr: u32) {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            let list = format!("{}/{bits}", Ipv4Addr::from(net & mask));
            let trusted = TrustedProxies::parse(&list).unwrap();
            prop_assert_eq!(trusted.contains(IpAddr::from(Ipv4Addr::from(addr))), addr & mask == net & mask);
            let dressed = IpAddr::from(Ipv4Addr::from(addr).to_ipv6_mapped());
            prop_assert_eq!(trusted.contains(dressed), addr & mask == net & mask);
        }
    }
}
