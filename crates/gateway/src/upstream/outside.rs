//! Addresses on the internet, told from those of our own network.
//!
//! A server out there may name others to be asked. Were they looked for in the operator's network too, that server could have
//! requests made where it has no way in itself. What counts is the address that is connected to, not the name: so names are
//! judged by what they resolve to, at the moment when a connection is made.

use futures_util::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};
use tower_service::Service;

/// Where somebody may be connected to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Within {
    /// Wherever that is.
    #[default]
    Anywhere,
    /// In a network of one's own alone.
    Inside,
    /// On the internet alone.
    Outside,
}

impl Within {
    /// Whether an address is there.
    pub fn has(self, address: IpAddr) -> bool {
        match self {
            Within::Anywhere => true,
            Within::Inside => !is_outside(address),
            Within::Outside => is_outside(address),
        }
    }
}

/// Resolves names to addresses that are where they may be.
#[derive(Clone)]
pub(super) struct Resolver {
    system: GaiResolver,
    within: Within,
}

impl Resolver {
    /// One that finds who is there.
    pub fn new(within: Within) -> Resolver {
        Resolver { system: GaiResolver::new(), within }
    }
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.system.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (found, within) = (self.system.call(name), self.within);
        Box::pin(async move {
            let found: Vec<SocketAddr> = found.await?.filter(|address| within.has(address.ip())).collect();
            if found.is_empty() {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, "not where it may be").into());
            }
            Ok(found.into_iter())
        })
    }
}

/// Where the host of an URL is, by all that its name resolves to at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whereabouts {
    /// In a network of one's own.
    Inside,
    /// On the internet, or nobody can say.
    Outside,
    /// Both: a name of one's own network does not resolve so, but one that wants to be taken for such.
    Both,
}

/// Where what is at `url` is. Whose name does not resolve is taken to be outside: less is believed of it then.
pub(crate) async fn whereabouts(url: &http::Uri) -> Whereabouts {
    if let Some(address) = literal(url) {
        return Whereabouts::of([address]);
    }
    let host = url.host().unwrap_or_default();
    let port = url.port_u16().unwrap_or(443);
    match tokio::net::lookup_host((host, port)).await {
        Ok(found) => Whereabouts::of(found.map(|address| address.ip())),
        Err(_) => Whereabouts::Outside,
    }
}

impl Whereabouts {
    fn of(addresses: impl IntoIterator<Item = IpAddr>) -> Whereabouts {
        let (mut inside, mut outside) = (false, false);
        for address in addresses {
            if is_outside(address) { outside = true } else { inside = true }
        }
        match (inside, outside) {
            (true, true) => Whereabouts::Both,
            (true, false) => Whereabouts::Inside,
            (false, _) => Whereabouts::Outside,
        }
    }
}

/// The address that an URL names, where it names no host.
pub(crate) fn literal(url: &http::Uri) -> Option<IpAddr> {
    url.host()?.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Whether an address is on the internet (IANA's registries of special-purpose addresses, RFC 6890, as of 2026): of no private
/// network, no link, not this machine, and nothing that leads to one of those.
pub(crate) fn is_outside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_outside_v4(address),
        IpAddr::V6(address) => is_outside_v6(address),
    }
}

fn is_outside_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    // This network and what is reserved, carriers' own (RFC 6598), protocols, relays to IPv6 that are no more (RFC 7526),
    // documentation, benchmarks.
    let is_special = matches!(
        (a, b, c),
        (0 | 240..=255, ..)
            | (100, 64..=127, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    );
    // Azure's platform itself, which answers to its own machines alone, whatever its address looks like.
    let is_platform = address == Ipv4Addr::new(168, 63, 129, 16);
    !(is_special
        || is_platform
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast())
}

fn is_outside_v6(address: Ipv6Addr) -> bool {
    let parts = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_outside_v4(Ipv4Addr::new(a, b, c, d))
    };
    match parts {
        // IPv4 within, translated (RFC 6052) or in a tunnel (RFC 3056).
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        // Documentation; Teredo, and what else is of protocols.
        [0x2001, 0xdb8 | 0..=0x1ff, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // Nothing else is given out.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_network_of_ones_own_is_not_outside() {
        let inside = [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "fc00::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::1",
            "2001:db8::1",
            "2001::1",
            "::10.0.0.1",
            "168.63.129.16",
            "192.88.99.1",
            "192.0.0.192",
            "100.100.100.200",
            "fd00:ec2::254",
            "3fff::1",
            "3fff:fff::1",
            "5f00::1",
            "100::1",
            "64:ff9b:1::1",
            "64:ff9b::a83f:8110",
        ];
        for address in inside {
            assert!(!is_outside(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "168.63.129.17",
            "192.88.98.1",
            "2606:4700::1111",
            "3fff:1000::1",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
        ] {
            assert!(is_outside(address.parse().unwrap()), "{address}");
        }
    }

    #[tokio::test]
    async fn a_name_is_judged_by_what_it_resolves_to() {
        let resolve = async |within| Resolver::new(within).call("localhost".parse().unwrap()).await.is_ok();
        assert!(resolve(Within::Anywhere).await && resolve(Within::Inside).await && !resolve(Within::Outside).await);
        // A name that has moved to the internet since it was looked at is not found there.
        assert!(!Within::Inside.has([1, 1, 1, 1].into()) && Within::Inside.has([10, 0, 0, 1].into()));
        for (url, expected) in [
            ("http://localhost:1/mcp", Whereabouts::Inside),
            ("https://[::1]/", Whereabouts::Inside),
            ("https://1.1.1.1/mcp", Whereabouts::Outside),
        ] {
            assert_eq!(whereabouts(&url.parse().unwrap()).await, expected, "{url}");
        }
        let both = ["10.0.0.1", "1.1.1.1"].map(|address| address.parse().unwrap());
        assert_eq!(Whereabouts::of(both), Whereabouts::Both);
        assert_eq!(Whereabouts::of([]), Whereabouts::Outside);
    }
}
