//! Rate limits: RATE_LIMIT_*.

use super::parse::Reader;
use super::variables::{self as var, Kind, Preset, Variable};
use crate::resilience::rate::{Limit, Rate, Settings};
use crate::server::TrustedProxies;

/// Reads all of them, also where they are switched off: they may be switched on without a restart.
pub(super) fn read(r: &mut Reader) -> Settings {
    let enabled = r.word(&var::RATE_LIMIT_ENABLED) == "true";
    let client = limit(r, &var::RATE_LIMIT_CLIENT, &var::RATE_LIMIT_CLIENT_BURST);
    let pod = limit(r, &var::RATE_LIMIT_POD, &var::RATE_LIMIT_POD_BURST);
    let Kind::Text { chars_max } = var::RATE_LIMIT_KEY.kind else {
        return Settings::default();
    };
    let name = |text: &str| {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        let fits = text.len() <= chars_max && text.bytes().all(token);
        fits.then(|| text.to_ascii_lowercase())
            .ok_or_else(|| format!("is no name of a request field of up to {chars_max} characters, as X-API-Key is"))
    };
    let key = r.given_or_why(&var::RATE_LIMIT_KEY, name, String::clone);
    let exempt = r.given_or_why(
        &var::RATE_LIMIT_EXEMPT,
        TrustedProxies::parse,
        TrustedProxies::to_string,
    );
    if enabled && client.is_none() && pod.is_none() {
        r.warnings
            .push("RATE_LIMIT_ENABLED is set, but both limits are off: nothing is limited".to_owned());
    }
    if let (true, Some(key)) = (enabled, &key) {
        r.warnings.push(format!(
            "RATE_LIMIT_KEY: whoever sends {key:?} is limited by its value and not by address; let something in front \
             check it, or clients will make values up"
        ));
    }
    Settings {
        enabled,
        client,
        pod,
        key,
        exempt: exempt.unwrap_or_default(),
    }
}

/// A rate with its burst, which is what the rate allows in its unit of time where nothing else is said; none: off.
fn limit(r: &mut Reader, rate: &Variable, burst: &Variable) -> Option<Limit> {
    let parse = |text: &str| match text.eq_ignore_ascii_case("off") {
        true => Some(None),
        false => Rate::parse(text).map(Some),
    };
    let show = |rate: &Option<Rate>| rate.map_or("off".to_owned(), |rate| rate.to_string());
    let preset = if let Preset::Word(word) = rate.preset {
        parse(word)
    } else {
        None
    };
    let given = r.given(rate, parse, show).or(preset).flatten();
    let at_once = r.number_given(burst);
    let given = given?;
    let at_once = at_once.map_or(given.count(), |count| u32::try_from(count).unwrap_or(u32::MAX));
    let limit = Limit::new(given, at_once);
    if limit.is_none() {
        r.fault(
            burst,
            format!("is {at_once}, which takes more than a day to come back at {given}: set less, or a higher rate"),
        );
    }
    limit
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, String> {
        let home = [("HOME", "/home/ada")];
        let env = home
            .iter()
            .chain(pairs)
            .map(|(name, value)| ((*name).into(), (*value).into()));
        Config::read(env).map_err(|errors| errors.to_string())
    }

    #[test]
    fn limits_are_read_whether_on_or_off() {
        let plain = read(&[]).unwrap().rate_limit;
        assert!(!plain.enabled);
        let shown = |limit: Option<crate::resilience::rate::Limit>| limit.map(|l| (l.rate.to_string(), l.burst));
        assert_eq!(shown(plain.client), Some(("100/s".to_owned(), 100)));
        assert_eq!(shown(plain.pod), Some(("3000/s".to_owned(), 3000)));
        let set = read(&[
            ("RATE_LIMIT_ENABLED", "1"),
            ("RATE_LIMIT_CLIENT", "600/m"),
            ("RATE_LIMIT_CLIENT_BURST", "20"),
            ("RATE_LIMIT_POD", "OFF"),
            ("RATE_LIMIT_KEY", "X-API-Key"),
            ("RATE_LIMIT_EXEMPT", "10.0.0.0/8,unix"),
        ])
        .unwrap();
        assert_eq!(shown(set.rate_limit.client), Some(("600/m".to_owned(), 20)));
        assert_eq!(
            (set.rate_limit.pod, set.rate_limit.key.as_deref()),
            (None, Some("x-api-key"))
        );
        assert!(set.rate_limit.exempt.contains_unix() && set.warnings.iter().any(|w| w.contains("RATE_LIMIT_KEY")));
        let off = read(&[
            ("RATE_LIMIT_ENABLED", "1"),
            ("RATE_LIMIT_CLIENT", "off"),
            ("RATE_LIMIT_POD", "off"),
        ]);
        assert!(off.unwrap().warnings.iter().any(|w| w.contains("nothing is limited")));
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_reason() {
        for (name, value, why) in [
            ("RATE_LIMIT_CLIENT", "0/s", "must be"),
            ("RATE_LIMIT_CLIENT", "many", "50/s"),
            ("RATE_LIMIT_CLIENT_BURST", "0", "from 1"),
            ("RATE_LIMIT_KEY", "X API", "no name of a request field"),
            ("RATE_LIMIT_EXEMPT", "10.0.0.1/8", "write 10.0.0.0/8"),
        ] {
            let said = read(&[(name, value)]).unwrap_err();
            assert!(said.contains(name) && said.contains(why), "{said}");
        }
        let said = read(&[("RATE_LIMIT_CLIENT", "1/h"), ("RATE_LIMIT_CLIENT_BURST", "100")]).unwrap_err();
        assert!(said.contains("more than a day"), "{said}");
    }
}
