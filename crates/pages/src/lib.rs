//! A catalog as pages.
//!
//! Every page is a list of parts, made once and rendered as HTML or as Markdown; its data is there as JSON. Servers wrote most
//! of what is shown, and may have written it to deceive: so there is one way for a text into a page, which shows what hides
//! and escapes the rest. Pages need no script and load nothing from elsewhere.
//!
//! This crate answers paths with texts. It knows no sockets and no files.

mod attack;
mod html;
mod known;
mod markdown;
mod part;
mod places;
mod server;
mod site;
mod sitemap;
mod tool;

pub use site::{Form, Reply, SECURITY_POLICY, Site};
pub use sitemap::{Base, sitemaps};
