//! `cidr_in`: an address or a network lies in one of some networks.

use super::{Mistake, listed, strings, text};
use crate::model::{Literal, SemanticOperator};
use json::Value;
use std::net::IpAddr;

/// Networks.
#[derive(Debug)]
pub(super) struct CidrIn {
    shown: Vec<String>,
    networks: Vec<Network>,
}

/// An address and how many of its first bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    is_v4: bool,
    bits: u128,
    length: u32,
}

impl CidrIn {
    pub(super) fn new(allowed: &Literal) -> Result<CidrIn, Mistake> {
        let shown = strings(allowed, EXPECTED)?;
        let read = |text: &String| Network::read(text).ok_or_else(|| Mistake::new(format!("`{text}` is no network"), EXPECTED));
        let networks = shown.iter().map(read).collect::<Result<_, _>>()?;
        Ok(CidrIn { shown, networks })
    }
}

impl SemanticOperator for CidrIn {
    fn name(&self) -> &'static str {
        "cidr_in"
    }

    fn phrase(&self) -> String {
        format!("lie in one of the networks {}", self.operand())
    }

    fn operand(&self) -> String {
        listed(&self.shown)
    }

    fn holds(&self, value: Value<'_>) -> Result<bool, String> {
        let network = Network::read(&text(value)?).ok_or("must be an address or a network, such as `10.0.0.0/8`")?;
        Ok(self.networks.iter().any(|allowed| allowed.holds(network)))
    }
}

impl Network {
    /// Reads `10.0.0.7`, `10.0.0.0/8`, `fd00::/8`. Other spellings of addresses, networks with bits behind their length, and
    /// addresses of one family within the other are none.
    fn read(text: &str) -> Option<Network> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let (is_v4, bits, full) = match address.parse().ok()? {
            IpAddr::V4(address) => (true, u128::from(u32::from(address)) << 96, 32),
            IpAddr::V6(address) if address.to_ipv4_mapped().is_none() => (false, u128::from(address), 128),
            IpAddr::V6(_) => return None,
        };
        let length = match length {
            None => full,
            Some("0") => 0,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0') => digits.parse().ok()?,
            Some(_) => return None,
        };
        let network = Network { is_v4, bits, length };
        (length <= full && bits & !network.mask() == 0).then_some(network)
    }

    fn mask(self) -> u128 {
        if self.length == 0 { 0 } else { u128::MAX << (128 - self.length) }
    }

    fn holds(self, other: Network) -> bool {
        self.is_v4 == other.is_v4 && self.length <= other.length && other.bits & self.mask() == self.bits
    }
}

const EXPECTED: &str = "expected a network such as `10.0.0.0/8`, or a list of them";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn holds(network: &str, text: &str, expected: Option<bool>) {
        let network = Network::read(network).unwrap();
        assert_eq!(Network::read(text).map(|other| network.holds(other)), expected, "{text}");
    }

    #[test]
    fn a_network_holds_what_is_within() {
        holds("10.0.0.0/8", "10.255.0.1", Some(true));
        holds("10.0.0.0/8", "10.1.0.0/16", Some(true));
        holds("10.0.0.0/8", "0.0.0.0/0", Some(false));
        holds("10.0.0.0/8", "11.0.0.1", Some(false));
        holds("fd00::/8", "fd12::1", Some(true));
        holds("::/0", "10.0.0.1", Some(false));
    }

    #[test]
    fn other_spellings_are_none() {
        for text in [
            "010.0.0.1",
            "10.1",
            "0x0a000001",
            "10.0.0.1/8",
            "10.0.0.0/08",
            "10.0.0.0/33",
            "::ffff:10.0.0.1",
            "10.0.0.1 ",
            "",
            "10.0.0.0/",
        ] {
            holds("10.0.0.0/8", text, None);
        }
    }
}
