//! A case: the script of an attack, and what must not reach the other side.
//!
//! A case is played twice, by the same script: with Callgate between a client and a server, where every step must come out as
//! it says here; and without, where every step must get through, for a case that cannot fail proves nothing.

/// One script.
#[derive(Debug)]
pub struct Case {
    /// What is tried, as a sentence without its full stop.
    pub title: String,
    /// Who stands where.
    pub scene: Scene,
    /// The server at the far end.
    pub server: Server,
    /// Whether definitions are pinned, at first use.
    pub is_pinned: bool,
    /// In order.
    pub steps: Vec<Step>,
}

/// Who stands where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// A client on stdio, `callgate run`, a server on stdio.
    Run,
    /// A client on stdio, `callgate run --upstream`, a server at a URL.
    Bridge,
    /// A client on HTTP, `callgate serve -p`, a server on stdio.
    Serve,
    /// Clients on HTTP, `callgate serve -c`, with the attack's configuration.
    Gateway,
}

impl Scene {
    /// The word in the data.
    pub fn name(self) -> &'static str {
        match self {
            Scene::Run => "run",
            Scene::Bridge => "bridge",
            Scene::Serve => "serve",
            Scene::Gateway => "gateway",
        }
    }

    pub(super) const ALL: [Scene; 4] = [Scene::Run, Scene::Bridge, Scene::Serve, Scene::Gateway];

    /// Whether the client speaks HTTP.
    pub fn is_over_http(self) -> bool {
        matches!(self, Scene::Serve | Scene::Gateway)
    }
}

/// What the server at the far end does. It notes whatever reaches it, and does as it is asked.
#[derive(Debug, Default)]
pub struct Server {
    /// The definitions that it lists, as JSON texts.
    pub tools: Vec<String>,
    /// The definitions that it lists after so many calls.
    pub becomes: Option<(u32, Vec<String>)>,
    /// What calls of a tool return: its name and the result, as JSON texts; of others, a text of the server's own.
    pub returns: Vec<(String, String)>,
    /// A request that it sends to its client during every call: method and parameters, as JSON text.
    pub asks: Option<(String, String)>,
    /// Whether it is reached by a URL instead of being a child process.
    pub is_at_url: bool,
    /// The answer to every HTTP request in place of one by the protocol: status, headers.
    pub answers: Option<(u16, Vec<(String, String)>)>,
    /// Whether every HTTP request is redirected to another origin.
    pub redirects: bool,
    /// Whether it notes its environment.
    pub notes_environment: bool,
    /// How many calls it takes before it answers any. It then answers by a map from ids, as a careless proxy would.
    pub gathers: u32,
}

/// One thing that a client sends, and what must become of it.
#[derive(Debug)]
pub struct Step {
    /// What is sent.
    pub send: Send,
    /// How many times. Of several, all but the last must pass where the last must not.
    pub times: u32,
    /// The grant whose token is shown, over HTTP; a name that no grant has shows a token that nobody issued.
    pub by: Option<String>,
    /// The grant whose session is used, over HTTP.
    pub session_of: Option<String>,
    /// Sent besides what a client sends, or in its place.
    pub headers: Vec<(String, String)>,
    /// Another path than that of the endpoint.
    pub path: Option<String>,
    /// Why it must not reach the server: the reason of the denial, a JSON-RPC code, or an HTTP status. Without it, it must.
    pub stopped: Option<String>,
    /// A text that must not reach the client.
    pub keeps_from_client: Option<String>,
    /// A text that must not reach the server, nor any other.
    pub keeps_from_server: Option<String>,
}

/// What a client sends.
#[derive(Clone, Debug)]
pub enum Send {
    /// A call: the tool, and the arguments as JSON text.
    Call(String, String),
    /// Another request: its method, and the parameters as JSON text.
    Method(String, String),
    /// These very bytes.
    Raw(String),
}
