//! What memory may be used.

use super::parse::{Reader, parse_number};
use super::variables::{self as var, bytes_text};

/// See MEMORY_MAX.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MemoryMax {
    /// What the control groups allow, or the machine has.
    #[default]
    Auto,
    /// Nobody looks.
    Off,
    /// Bytes of this process, besides what the control groups allow.
    Bytes(u64),
}

pub(super) fn read(r: &mut Reader) -> MemoryMax {
    let parse = |text: &str| match text.to_ascii_lowercase().as_str() {
        "auto" => Some(MemoryMax::Auto),
        "off" => Some(MemoryMax::Off),
        _ => parse_number(var::MEMORY_MAX.kind, text).map(MemoryMax::Bytes),
    };
    let show = |max: &MemoryMax| match max {
        MemoryMax::Auto => "auto".to_owned(),
        MemoryMax::Off => "off".to_owned(),
        MemoryMax::Bytes(bytes) => bytes_text(*bytes),
    };
    r.given(&var::MEMORY_MAX, parse, show).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::MemoryMax;
    use crate::config::Config;

    fn read(value: &str) -> Result<MemoryMax, String> {
        let env = [("DATA_DIR", "d"), ("MEMORY_MAX", value)];
        let config = Config::read(env.map(|(name, value)| (name.into(), value.into())));
        config
            .map(|config| config.memory_max)
            .map_err(|errors| errors.to_string())
    }

    #[test]
    fn a_size_or_a_word() {
        assert_eq!(read(""), Ok(MemoryMax::Auto));
        assert_eq!(read("Auto"), Ok(MemoryMax::Auto));
        assert_eq!(read("off"), Ok(MemoryMax::Off));
        assert_eq!(read("4Gi"), Ok(MemoryMax::Bytes(4 << 30)));
        assert_eq!(read("512M"), Ok(MemoryMax::Bytes(512 << 20)));
        for wrong in ["0", "1M", "-1", "much", "4GiBs", "75%"] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains("MEMORY_MAX") && error.contains("auto, off"), "{error}");
        }
    }
}
