//! The name of an upstream that was given none.
//!
//! Counters and records carry it, so it must be the same at every start of the same server, and it must not change with
//! what changes often: versions, paths of installation, arguments.

/// Programs that run another program or script, which is the server.
const LAUNCHERS: &[&str] = &[
    "npx", "npm", "pnpm", "bunx", "bun", "yarn", "uvx", "uv", "pipx", "node", "deno", "python", "python2", "python3", "ruby",
    "env", "sh", "bash", "sudo", "docker", "podman", "java", "dotnet", "go", "cargo",
];
/// Words between a launcher and what it launches.
const VERBS: &[&str] = &["run", "exec", "x", "tool", "dlx", "start"];
/// Last parts of a URL's path that say nothing of the server.
const ENDPOINTS: &[&str] = &["mcp", "sse", "v1", "api", ""];

/// Names a server by its command: `npx -y @scope/server-files@1.2 /srv` is `server-files`.
pub fn of_command(words: &[String]) -> String {
    let mut rest = words.iter().map(String::as_str).peekable();
    let program = rest.next().unwrap_or_default();
    let mut name = base(program);
    // Each launcher in a chain (`env -S uv run server.py`) hands on to the next word that is no option and no verb.
    while LAUNCHERS.contains(&name.as_str()) {
        let next = rest.find(|word| !word.starts_with('-') && !VERBS.contains(word) && !is_assignment(word));
        match next {
            Some(word) => name = base(word),
            None => break,
        }
    }
    plain(&name).unwrap_or_else(|| "server".to_owned())
}

/// Names a server by its URL: the host, and the path as far as it distinguishes.
pub fn of_url(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let mut parts = vec![host];
    parts.extend(path.split('/').filter(|part| !ENDPOINTS.contains(part)));
    plain(&parts.join("-")).unwrap_or_else(|| "server".to_owned())
}

/// The last part of a path or package, without version and extension.
fn base(word: &str) -> String {
    let word = word.trim_end_matches('/');
    let name = word.rsplit(['/', '\\']).next().unwrap_or_default();
    // `name@1.2`, `name==1.2`, `name:tag`; a scope's `@` was left behind with its slash.
    let name = name.split(['@', ':']).find(|part| !part.is_empty()).unwrap_or_default();
    let name = name.split("==").next().unwrap_or_default();
    let extensions = [".py", ".js", ".mjs", ".cjs", ".ts", ".sh", ".exe", ".jar"];
    let stripped = extensions.iter().find_map(|extension| name.strip_suffix(extension));
    stripped.unwrap_or(name).to_owned()
}

/// `KEY=value`, but not `package==1.2`.
fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(_, value)| !value.starts_with('='))
}

/// In letters, digits and single hyphens; at most 64.
fn plain(name: &str) -> Option<String> {
    let mut out = String::new();
    for c in name.chars() {
        match c.to_ascii_lowercase() {
            c if c.is_ascii_alphanumeric() => out.push(c),
            _ if !out.ends_with('-') && !out.is_empty() => out.push('-'),
            _ => {}
        }
    }
    out.truncate(64);
    let out = out.trim_end_matches('-').to_owned();
    (!out.is_empty()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(command: &str, name: &str) {
        let words: Vec<String> = command.split(' ').map(str::to_owned).collect();
        assert_eq!(of_command(&words), name, "{command}");
    }

    #[test]
    fn a_command_is_named_by_what_it_runs() {
        check("npx -y @modelcontextprotocol/server-filesystem@2026.1.14 /srv", "server-filesystem");
        check("uvx awslabs.aws-healthomics-mcp-server==0.0.37", "awslabs-aws-healthomics-mcp-server");
        check("/opt/venv/bin/awslabs.aws-healthomics-mcp-server", "awslabs-aws-healthomics-mcp-server");
        check("python3 -m my_server", "my-server");
        check("uv run python ./servers/Files.py --root /", "files");
        check("docker run -i --rm ghcr.io/acme/mcp:1.2", "mcp");
        check("env KEY=value node dist/index.js", "index");
        check("node", "node");
        check("/", "server");
    }

    #[test]
    fn a_url_is_named_by_its_host_and_what_distinguishes_its_path() {
        assert_eq!(of_url("https://api.githubcopilot.com/mcp/"), "api-githubcopilot-com");
        assert_eq!(of_url("http://user:secret@127.0.0.1:8080/mcp?token=x"), "127-0-0-1-8080");
        assert_eq!(of_url("https://example.org/team/files/mcp"), "example-org-team-files");
    }
}
