//! One file in which a client keeps its servers.

use crate::client::{Client, Machine, Shape, format_of};
use crate::server::{Key, Server};
use crate::tree::{Node, Tree};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Larger files are no configurations; Claude Code's grows to some megabytes.
const MAX_BYTES: u64 = 32 * 1024 * 1024;

/// A client's configuration, read.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// Whose it is.
    pub client: &'static Client,
    /// Where it stands.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// Its servers, in order.
    pub servers: Vec<Server>,
    pub(crate) tree: Tree,
}

/// Why a configuration that is there cannot be used.
#[derive(Debug)]
pub struct ReadError {
    /// Whose it is.
    pub client: &'static Client,
    /// Where it stands.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.client.name, self.path.display(), self.why)
    }
}

impl std::error::Error for ReadError {}

impl Configuration {
    /// All configurations of `client` that are there, read.
    pub fn of(client: &'static Client, machine: &Machine) -> Vec<Result<Configuration, ReadError>> {
        client.files(machine).into_iter().filter_map(|path| Configuration::read(client, &path).transpose()).collect()
    }

    /// Reads the configuration at `path`; nothing, where there is none.
    ///
    /// # Errors
    /// When it is there and cannot be read, or is not what its client would accept.
    pub fn read(client: &'static Client, path: &Path) -> Result<Option<Configuration>, ReadError> {
        let failed = |why: String| ReadError { client, path: path.to_owned(), why };
        match std::fs::metadata(path) {
            Ok(metadata) if !metadata.is_file() => return Err(failed("not a file".to_owned())),
            Ok(metadata) if metadata.len() > MAX_BYTES => return Err(failed("too large to be a configuration".to_owned())),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
            Err(error) => return Err(failed(error.to_string())),
        }
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        // A file that has been made and not filled yet.
        if text.trim().is_empty() {
            return Ok(None);
        }
        Configuration::parse(client, path, text).map(Some)
    }

    /// Reads `text` as the configuration at `path`.
    ///
    /// # Errors
    /// When it is not what its client would accept.
    pub fn parse(client: &'static Client, path: &Path, text: String) -> Result<Configuration, ReadError> {
        let tree = Tree::parse(&text, format_of(path));
        let tree = tree.map_err(|why| ReadError { client, path: path.to_owned(), why })?;
        let servers = servers(client, &tree.root);
        Ok(Configuration { client, path: path.to_owned(), text, servers, tree })
    }

    /// The mapping that describes a server.
    pub(crate) fn entry(&self, server: &Server) -> Option<&Node> {
        server.at.iter().try_fold(&self.tree.root, |node, key| match key {
            Key::Name(name) => node.get(name),
            Key::Position(position) => node.items()?.get(*position),
        })
    }
}

fn servers(client: &Client, root: &Node) -> Vec<Server> {
    let mut found = Vec::new();
    match &client.shape {
        Shape::Mapping(places) => found.extend(of_mapping(root, places, &[])),
        Shape::WithProjects(places) => {
            found.extend(of_mapping(root, places, &[]));
            for project in root.get("projects").map(Node::members).unwrap_or_default() {
                let at = [Key::Name("projects".to_owned()), Key::Name(project.key.clone())];
                found.extend(of_mapping(&project.value, places, &at));
            }
        }
        Shape::List(path) => {
            let Some((list, at)) = follow(root, path, &[]) else { return found };
            if list.items().is_none() {
                return of_mapping(root, &[path], &[]);
            }
            for (position, entry) in list.items().unwrap_or_default().iter().enumerate() {
                let name = entry.get("name").and_then(Node::text).unwrap_or("server");
                let at = [&at[..], &[Key::Position(position)]].concat();
                found.extend(Server::read(name, entry, &at));
            }
        }
    }
    found
}

fn of_mapping(node: &Node, places: &[&[&str]], above: &[Key]) -> Vec<Server> {
    let Some((mapping, at)) = places.iter().find_map(|path| follow(node, path, above)) else { return Vec::new() };
    let read = |member: &crate::tree::Member| {
        let at = [&at[..], &[Key::Name(member.key.clone())]].concat();
        Server::read(&member.key, &member.value, &at)
    };
    mapping.members().iter().filter_map(read).collect()
}

fn follow<'n>(node: &'n Node, path: &[&str], above: &[Key]) -> Option<(&'n Node, Vec<Key>)> {
    let found = path.iter().try_fold(node, |node, key| node.get(key))?;
    Some((found, above.iter().cloned().chain(path.iter().map(|key| Key::Name((*key).to_owned()))).collect()))
}
