//! What the gateway says of itself, where it answers in a server's place.

use bytes::Bytes;
use mcp::Id;

/// The answer to the `server/discover` of this id. `able`: the capabilities; `said`: further members of the result; both as JSON.
pub(crate) fn discovery(id: &Id, able: &str, said: &str) -> Bytes {
    let versions = mcp::reply::supported_versions();
    let result = format!(
        concat!(
            r#"{{"resultType":"complete","supportedVersions":{},"capabilities":{}{},"ttlMs":0,"#,
            r#""cacheScope":"private","_meta":{{"io.modelcontextprotocol/serverInfo":{}}}}}"#
        ),
        versions,
        able,
        said,
        mcp::IMPLEMENTATION
    );
    mcp::reply::result(id, &result)
}
