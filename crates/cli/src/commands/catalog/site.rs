//! `catalog serve` and `catalog export --html`: the pages of a catalog, over HTTP and as files.

use crate::arguments::ServeCatalog;
use crate::commands::block_on;
use crate::failure::{Failure, OK};
use crate::terminal::{counted, tell, visible};
use collection::Collection;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use pages::{Base, Form, Reply, SECURITY_POLICY, Site, sitemaps};
use std::convert::Infallible;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// A browser opens six connections, and people look, not programs.
const MOST_CONNECTIONS: usize = 256;

pub fn serve(arguments: &ServeCatalog) -> Result<u8, Failure> {
    if !arguments.listen.ip().is_loopback() {
        return Err(Failure::usage("the catalog has no credentials: `--listen` must be an address of this machine alone"));
    }
    let collection = Arc::new(Collection::open(&arguments.catalog.path)?);
    block_on(async {
        let doing = format!("cannot listen on {}", arguments.listen);
        let listener = TcpListener::bind(arguments.listen).await.map_err(|error| Failure::because(&doing, &error))?;
        tell!("callgate catalog on http://{}/", listener.local_addr()?);
        let ended = tokio::signal::ctrl_c();
        tokio::select! {
            () = accept(listener, collection) => {}
            _ = ended => {}
        }
        Ok(OK)
    })
}

async fn accept(listener: TcpListener, collection: Arc<Collection>) {
    let free = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(permit) = free.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: some will be given back.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let collection = collection.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let response = respond(&collection, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut connection = http1::Builder::new();
            connection.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(30));
            // A browser that hangs up is no news.
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
            drop(permit);
        });
    }
}

fn respond(collection: &Collection, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let plain = |status, text: &str| Reply { status, content_type: "text/plain; charset=utf-8", body: format!("{text}\n") };
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let reply = match request.method() {
        _ if !is_of_this_machine(host) => plain(403, "this host is not served here"),
        &Method::GET | &Method::HEAD => {
            let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
            let answered = Site::of(collection, Form::Served).answer(path, query);
            answered.unwrap_or_else(|_| plain(500, "the catalog cannot be read"))
        }
        _ => plain(405, "there is nothing but pages to get"),
    };
    let mut response = Response::new(Full::new(Bytes::from(reply.body)));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(SECURITY_POLICY));
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

/// A page of a stranger may have its name lead here, to read what is here; it cannot choose the name that the browser says.
fn is_of_this_machine(host: &str) -> bool {
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

pub fn export(catalog: &Path, directory: &Path, base: Option<&Base>) -> Result<u8, Failure> {
    let collection = Collection::open(catalog)?;
    let shown = visible(&directory.display().to_string());
    let failed = |error: std::io::Error| Failure::because(&format!("cannot write to `{shown}`"), &error);
    std::fs::create_dir_all(directory).map_err(failed)?;
    if std::fs::read_dir(directory).map_err(failed)?.next().is_some() {
        return Err(Failure::general(format!("`{shown}` is not empty; pages are written to a directory of their own")));
    }
    let site = Site::of(&collection, Form::Files);
    let write = |path: &str, text: String| -> Result<(), Failure> {
        let file = directory.join(path);
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        std::fs::write(&file, text).map_err(failed)
    };
    let mut paths = Vec::new();
    site.paths(|path| {
        paths.push(path.to_owned());
        Ok(())
    })?;
    for path in &paths {
        for (ending, text) in site.files(path)?.into_iter().flatten() {
            write(&format!("{path}{ending}"), text)?;
        }
    }
    for path in ["style.css", "copy.js", "llms.txt"] {
        write(path, site.answer(path, "")?.body)?;
    }
    for (name, text) in base.map(|base| sitemaps(base, &paths)).unwrap_or_default() {
        write(&name, text)?;
    }
    tell!("{} written to {shown}", counted(paths.len() as u64, "page", "pages"));
    Ok(OK)
}

#[cfg(test)]
mod tests {
    use super::is_of_this_machine;

    #[test]
    fn only_this_machines_names_are_answered() {
        for host in ["localhost", "LOCALHOST:7430", "127.0.0.1:1", "[::1]:7430"] {
            assert!(is_of_this_machine(host), "{host}");
        }
        for host in ["", "evil.test", "127.0.0.1.evil.test", "localhost.evil.test:80", "192.168.1.1"] {
            assert!(!is_of_this_machine(host), "{host}");
        }
    }
}
