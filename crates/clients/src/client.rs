//! The MCP clients that are known, and where each keeps its servers on every platform.

use crate::tree::Format;
use std::path::{Path, PathBuf};

/// An operating system, as far as paths go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// Linux, and other systems that follow the XDG base directories.
    Linux,
    /// macOS.
    MacOs,
    /// Windows.
    Windows,
}

/// Where a user's files are on a machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Which rules for paths hold.
    pub platform: Platform,
    /// The user's home.
    pub home: PathBuf,
    /// `$XDG_CONFIG_HOME`, where it is set.
    pub config: Option<PathBuf>,
    /// `%APPDATA%`, where it is set.
    pub app_data: Option<PathBuf>,
    /// `$CODEX_HOME`, where it is set.
    pub codex: Option<PathBuf>,
    /// The directory whose project's configurations are looked at too.
    pub project: Option<PathBuf>,
}

/// A program that speaks MCP to servers which it reads from files.
#[derive(Debug)]
pub struct Client {
    /// The name by which people know it.
    pub name: &'static str,
    /// The name by which it is asked for: letters, digits and hyphens.
    pub id: &'static str,
    /// Its files: `~/` is the user's home, `config:` the directory for configurations, `data:` the one for programs with windows,
    /// `codex:` that of Codex, `./` the project; `*.yaml` is each file of a directory that is so called. In the order Linux, macOS,
    /// Windows.
    places: &'static [Place],
    /// Where the servers stand in them.
    pub(crate) shape: Shape,
    /// Its own words.
    pub(crate) words: Words,
}

/// What a client calls the parts of a server that is a command.
#[derive(Debug)]
pub(crate) struct Words {
    pub command: &'static str,
    /// Whether the command is a list that holds the arguments too.
    pub command_is_list: bool,
    pub env: &'static str,
    /// What `type` says of it, where it says something.
    pub stdio: &'static str,
}

const USUAL: Words = Words { command: "command", command_is_list: false, env: "env", stdio: "stdio" };

/// Where servers stand in a configuration.
#[derive(Debug)]
pub(crate) enum Shape {
    /// A mapping from names, in the first of these places that is there.
    Mapping(&'static [&'static [&'static str]]),
    /// The same, and once more for each project below `projects`.
    WithProjects(&'static [&'static [&'static str]]),
    /// A list in which each has a `name`; or a mapping, as other clients write it.
    List(&'static [&'static str]),
}

type Place = [&'static str; 3];

const fn everywhere(path: &'static str) -> Place {
    [path, path, path]
}

const SERVERS: Shape = Shape::Mapping(&[&["mcpServers"]]);

const fn client(name: &'static str, id: &'static str, places: &'static [Place], shape: Shape) -> Client {
    Client { name, id, places, shape, words: USUAL }
}

/// All that are known. The paths are those of the clients' own documentation, in November 2026.
pub const CLIENTS: &[Client] = &[
    client("Claude Desktop", "claude-desktop", &[everywhere("data:Claude/claude_desktop_config.json")], SERVERS),
    client(
        "Claude Code",
        "claude-code",
        &[everywhere("~/.claude.json"), everywhere("./.mcp.json")],
        Shape::WithProjects(&[&["mcpServers"]]),
    ),
    client("Cursor", "cursor", &[everywhere("~/.cursor/mcp.json"), everywhere("./.cursor/mcp.json")], SERVERS),
    client(
        "VS Code",
        "vscode",
        &[
            everywhere("data:Code/User/mcp.json"),
            everywhere("data:Code/User/settings.json"),
            everywhere("./.vscode/mcp.json"),
            everywhere("./.vscode/settings.json"),
        ],
        Shape::Mapping(&[&["servers"], &["mcp", "servers"]]),
    ),
    client(
        "VS Code Insiders",
        "vscode-insiders",
        &[everywhere("data:Code - Insiders/User/mcp.json"), everywhere("data:Code - Insiders/User/settings.json")],
        Shape::Mapping(&[&["servers"], &["mcp", "servers"]]),
    ),
    client("Windsurf", "windsurf", &[everywhere("~/.codeium/windsurf/mcp_config.json")], SERVERS),
    client(
        "Zed",
        "zed",
        &[
            ["config:zed/settings.json", "~/.config/zed/settings.json", "data:Zed/settings.json"],
            everywhere("./.zed/settings.json"),
        ],
        Shape::Mapping(&[&["context_servers"]]),
    ),
    client(
        "Codex",
        "codex",
        &[everywhere("codex:config.toml"), everywhere("./.codex/config.toml")],
        Shape::Mapping(&[&["mcp_servers"]]),
    ),
    client("Gemini CLI", "gemini", &[everywhere("~/.gemini/settings.json"), everywhere("./.gemini/settings.json")], SERVERS),
    Client {
        words: Words { command: "cmd", env: "envs", ..USUAL },
        ..client(
            "Goose",
            "goose",
            &[["config:goose/config.yaml", "~/.config/goose/config.yaml", "data:Block/goose/config/config.yaml"]],
            Shape::Mapping(&[&["extensions"]]),
        )
    },
    client(
        "Cline",
        "cline",
        &[
            everywhere("data:Code/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json"),
            everywhere("data:Code - Insiders/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json"),
            everywhere("data:Cursor/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json"),
            everywhere("~/.cline/data/settings/cline_mcp_settings.json"),
        ],
        SERVERS,
    ),
    client(
        "Roo Code",
        "roo",
        &[
            everywhere("data:Code/User/globalStorage/rooveterinaryinc.roo-cline/settings/mcp_settings.json"),
            everywhere("data:Code/User/globalStorage/rooveterinaryinc.roo-cline/settings/cline_mcp_settings.json"),
            everywhere("data:Code - Insiders/User/globalStorage/rooveterinaryinc.roo-cline/settings/mcp_settings.json"),
            everywhere("data:Cursor/User/globalStorage/rooveterinaryinc.roo-cline/settings/mcp_settings.json"),
            everywhere("./.roo/mcp.json"),
        ],
        SERVERS,
    ),
    client(
        "Kilo Code",
        "kilo",
        &[
            everywhere("data:Code/User/globalStorage/kilocode.kilo-code/settings/mcp_settings.json"),
            everywhere("./.kilocode/mcp.json"),
        ],
        SERVERS,
    ),
    client(
        "Continue",
        "continue",
        &[
            everywhere("~/.continue/config.yaml"),
            everywhere("./.continue/mcpServers/*.yaml"),
            everywhere("./.continue/mcpServers/*.yml"),
            everywhere("./.continue/mcpServers/*.json"),
        ],
        Shape::List(&["mcpServers"]),
    ),
    client("LM Studio", "lm-studio", &[everywhere("~/.lmstudio/mcp.json")], SERVERS),
    client("Amazon Q", "amazon-q", &[everywhere("~/.aws/amazonq/mcp.json"), everywhere("./.amazonq/mcp.json")], SERVERS),
    client("Kiro", "kiro", &[everywhere("~/.kiro/settings/mcp.json"), everywhere("./.kiro/settings/mcp.json")], SERVERS),
    client("Copilot CLI", "copilot", &[everywhere("~/.copilot/mcp-config.json")], SERVERS),
    client(
        "Amp",
        "amp",
        &[["config:amp/settings.json", "~/.config/amp/settings.json", "~/.config/amp/settings.json"]],
        Shape::Mapping(&[&["amp.mcpServers"]]),
    ),
    Client {
        words: Words { command: "command", command_is_list: true, env: "environment", stdio: "local" },
        ..client(
            "opencode",
            "opencode",
            &[
                ["config:opencode/opencode.json", "~/.config/opencode/opencode.json", "~/.config/opencode/opencode.json"],
                ["config:opencode/opencode.jsonc", "~/.config/opencode/opencode.jsonc", "~/.config/opencode/opencode.jsonc"],
                everywhere("./opencode.json"),
            ],
            Shape::Mapping(&[&["mcp"]]),
        )
    },
];

impl Client {
    /// The files in which it keeps servers on `machine`, whether they are there or not; of a directory, those that are there.
    pub fn files(&self, machine: &Machine) -> Vec<PathBuf> {
        self.places.iter().filter_map(|place| machine.resolve(place)).flat_map(each_of).collect()
    }
}

impl Machine {
    /// This machine, with the configurations of the project in `project`. `None` where nobody knows the user's home.
    pub fn this(project: Option<PathBuf>) -> Option<Machine> {
        let directory = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let platform = match std::env::consts::OS {
            "windows" => Platform::Windows,
            "macos" => Platform::MacOs,
            _ => Platform::Linux,
        };
        let home = std::env::home_dir().filter(|home| home.is_absolute())?;
        let (config, app_data, codex) = (directory("XDG_CONFIG_HOME"), directory("APPDATA"), directory("CODEX_HOME"));
        Some(Machine { platform, home, config, app_data, codex, project })
    }

    fn resolve(&self, place: &Place) -> Option<PathBuf> {
        let path = place[self.platform as usize];
        let below = |directory: &Path, rest: &str| rest.split('/').fold(directory.to_owned(), |path, part| path.join(part));
        if let Some(rest) = path.strip_prefix("~/") {
            return Some(below(&self.home, rest));
        }
        if let Some(rest) = path.strip_prefix("./") {
            return self.project.as_deref().map(|project| below(project, rest));
        }
        let (directory, rest) = path.split_once(':')?;
        let config = || self.config.clone().unwrap_or_else(|| self.home.join(".config"));
        let directory = match (directory, self.platform) {
            ("codex", _) => self.codex.clone().unwrap_or_else(|| self.home.join(".codex")),
            ("data", Platform::MacOs) => self.home.join("Library").join("Application Support"),
            ("data", Platform::Windows) => self.app_data.clone().unwrap_or_else(|| self.home.join("AppData").join("Roaming")),
            _ => config(),
        };
        Some(below(&directory, rest))
    }
}

/// The files of a directory where the name is `*.yaml` or the like, in their order; else the path itself.
fn each_of(path: PathBuf) -> Vec<PathBuf> {
    let (name, directory) = (path.file_name().and_then(|name| name.to_str()), path.parent());
    let (Some(ending), Some(directory)) = (name.and_then(|name| name.strip_prefix('*')), directory) else { return vec![path] };
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let files = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.ends_with(ending))).collect();
    files.sort();
    files.truncate(MOST_FILES);
    files
}

/// A directory of configurations has a handful.
const MOST_FILES: usize = 200;

/// How the file at `path` is written, by its name.
pub(crate) fn format_of(path: &Path) -> Format {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("yaml" | "yml") => Format::Yaml,
        Some("toml") => Format::Toml,
        _ => Format::Json,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(platform: Platform) -> Machine {
        let home = PathBuf::from("/home/ada");
        Machine { platform, home, config: None, app_data: None, codex: None, project: Some("/work".into()) }
    }

    #[track_caller]
    fn check(id: &str, platform: Platform, expected: &str) {
        let client = CLIENTS.iter().find(|client| client.id == id).expect("the client is known");
        let files: Vec<_> = client.files(&machine(platform)).iter().map(|path| path.display().to_string()).collect();
        assert!(files.contains(&expected.to_owned()), "{id}: {files:?}");
    }

    #[test]
    fn every_platform_has_its_own_places() {
        use Platform::{Linux, MacOs, Windows};
        check("claude-desktop", Linux, "/home/ada/.config/Claude/claude_desktop_config.json");
        check("claude-desktop", MacOs, "/home/ada/Library/Application Support/Claude/claude_desktop_config.json");
        check("claude-desktop", Windows, "/home/ada/AppData/Roaming/Claude/claude_desktop_config.json");
        check("zed", MacOs, "/home/ada/.config/zed/settings.json");
        check("zed", Windows, "/home/ada/AppData/Roaming/Zed/settings.json");
        check("goose", Windows, "/home/ada/AppData/Roaming/Block/goose/config/config.yaml");
        check("goose", MacOs, "/home/ada/.config/goose/config.yaml");
        check("vscode", Linux, "/work/.vscode/mcp.json");
        check("codex", Windows, "/home/ada/.codex/config.toml");
    }

    /// All places of all clients on all systems, as they were compared with the clients' documentation. After a change that is
    /// meant: `CALLGATE_SNAPSHOTS=write cargo nextest run -p callgate-clients`.
    #[test]
    fn every_place_is_where_it_was() {
        let mut told = String::new();
        for client in CLIENTS {
            for platform in [Platform::Linux, Platform::MacOs, Platform::Windows] {
                for place in client.places {
                    let path = machine(platform).resolve(place).expect("every place is somewhere");
                    told += &format!("{:<16}{:<8} {}\n", client.id, format!("{platform:?}"), path.display());
                }
            }
        }
        let snapshot = concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots/places.txt");
        if std::env::var("CALLGATE_SNAPSHOTS").is_ok_and(|word| word == "write") {
            std::fs::write(snapshot, &told).expect("the snapshot is written");
        }
        assert_eq!(told, std::fs::read_to_string(snapshot).unwrap_or_default());
    }

    #[test]
    fn what_the_environment_says_goes_first() {
        let mut machine = machine(Platform::Linux);
        machine.config = Some("/etc/xdg-ada".into());
        machine.codex = Some("/srv/codex".into());
        let file = |id: &str| CLIENTS.iter().find(|client| client.id == id).map(|client| client.files(&machine)[0].clone());
        assert_eq!(file("zed"), Some("/etc/xdg-ada/zed/settings.json".into()));
        assert_eq!(file("codex"), Some("/srv/codex/config.toml".into()));
    }

    #[test]
    fn every_client_has_a_name_of_its_own() {
        for (i, client) in CLIENTS.iter().enumerate() {
            assert!(client.id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{}", client.id);
            assert!(CLIENTS[..i].iter().all(|other| other.id != client.id && other.name != client.name), "{}", client.id);
            assert!(client.places.iter().all(|place| machine(Platform::Linux).resolve(place).is_some()), "{}", client.id);
        }
    }

    #[test]
    fn the_page_about_clients_names_them_all() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/clients.md")).expect("the page");
        let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| ") && line.contains('`')).collect();
        let begins = |client: &Client| format!("| {} | `{}` |", client.name, client.id);
        assert!(CLIENTS.iter().all(|client| rows.iter().any(|row| row.starts_with(&begins(client)))), "{rows:#?}");
        assert_eq!(rows.len(), CLIENTS.len() + 1, "with the head of the table");
    }
}
