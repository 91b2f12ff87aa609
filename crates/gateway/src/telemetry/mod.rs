//! What is told to the outside: figures, traces, health, and the audit log elsewhere.
//!
//! What is observed is collected by [`observe`](crate::observe); here it is served to whoever asks (Prometheus, whoever watches
//! over health) and delivered to collectors (OTLP) and files. All of it runs beside the gateway, and holds up no call.

mod endpoint;
mod export;
mod otlp;
mod prometheus;

use crate::config::{Config, ExportConfig};
use crate::observe::Observatory;
use crate::upstream::TargetError;
use export::Export;
use otlp::Exporter;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use store::Store;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Spans that wait to be delivered.
const MAX_SPANS: usize = 4_096;
/// What is left at the end is delivered within so long, or not.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// What is told.
pub(crate) struct Telemetry {
    observatory: Arc<Observatory>,
    store: Store,
    export: Option<Arc<Export>>,
    /// Cancelled when calls are not let in any more.
    stopping: CancellationToken,
}

/// What is read when somebody asks.
struct Figures {
    store_up: bool,
    stopping: bool,
    /// The number of the last record that was exported, if any is.
    exported: Option<u64>,
    export_up: bool,
}

impl Figures {
    /// Whether calls are answered: without state they would be denied.
    fn is_ready(&self) -> bool {
        self.store_up && !self.stopping
    }
}

impl Telemetry {
    fn observatory(&self) -> &Observatory {
        &self.observatory
    }

    fn figures(&self) -> Figures {
        Figures {
            store_up: self.store.health().trouble.is_none(),
            stopping: self.stopping.is_cancelled(),
            exported: self.export.as_ref().map(|export| export.last()),
            export_up: self.export.as_ref().is_none_or(|export| export.is_up()),
        }
    }
}

/// What runs beside the gateway for the sake of those outside; ended by [`Telling::close`].
pub struct Telling {
    telemetry: Arc<Telemetry>,
    address: Option<SocketAddr>,
    stop: CancellationToken,
    exporter: Option<JoinHandle<()>>,
    export: Option<export::Running>,
}

/// Why something cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The address for figures cannot be had.
    #[error("cannot listen on {0}, which `telemetry.metrics` names")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// A collector's address is none.
    #[error("`{0}` names no collector")]
    Collector(&'static str, #[source] TargetError),
    /// No thread can be started.
    #[error("records cannot be exported")]
    Export(#[source] std::io::Error),
}

impl Telling {
    /// Starts what `config` asks for; nothing where it asks for nothing. Within a runtime. `stopping` is cancelled when calls
    /// are not let in any more.
    ///
    /// # Errors
    /// When an address cannot be had or is none.
    pub async fn start(config: &Config, store: &Store, stopping: &CancellationToken) -> Result<Option<Telling>, TelemetryError> {
        let (wanted, audit) = (&config.telemetry, &config.audit.export);
        if wanted.metrics.is_none() && wanted.otlp.is_none() && *audit == ExportConfig::default() {
            return Ok(None);
        }
        let collector = wanted.otlp.as_deref().map(|url| Exporter::at(url, "telemetry.otlp")).transpose()?;
        let logs = audit.otlp.as_deref().map(|url| Exporter::at(url, "audit.export.otlp")).transpose()?;
        let export = (audit.file.is_some() || logs.is_some()).then(|| Arc::new(Export::default()));
        let (spans, given) = mpsc::channel(MAX_SPANS);
        let telemetry = Arc::new(Telemetry {
            observatory: Observatory::new(collector.is_some().then_some(spans)),
            store: store.clone(),
            export: export.clone(),
            stopping: stopping.clone(),
        });
        let stop = CancellationToken::new();
        let address = match wanted.metrics {
            Some(at) => Some(endpoint::serve(at, telemetry.clone(), stop.clone()).await?),
            None => None,
        };
        let exporter = collector.map(|collector| tokio::spawn(collector.run(telemetry.clone(), given, stop.clone())));
        let export = match export {
            Some(export) => Some(export.start(audit, logs, store.clone()).map_err(TelemetryError::Export)?),
            None => None,
        };
        Ok(Some(Telling { telemetry, address, stop, exporter, export }))
    }

    /// What is to be told is told to this.
    pub fn observatory(&self) -> &Arc<Observatory> {
        &self.telemetry.observatory
    }

    /// Where figures are served, if they are.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Tells what is left, and ends. The store must still be open.
    pub async fn close(self) {
        self.stop.cancel();
        if let Some(exporter) = self.exporter {
            let _ = tokio::time::timeout(LAST_WORDS, exporter).await;
        }
        if let Some(export) = self.export {
            export.close(LAST_WORDS).await;
        }
    }
}
