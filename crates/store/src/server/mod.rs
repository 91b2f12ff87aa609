//! State in PostgreSQL, shared by any number of gateways on any number of machines.
//!
//! As with a file, one thread uses the database, and all that waits goes into one commit. A call costs two trips for the
//! whole group: the first takes the locks and reads what the counters hold, the second writes and commits. In between the
//! calls are judged here, by the same code as ever.
//!
//! What two gateways may not do at a time is kept apart by locks of the transaction: one for each counter, taken in one
//! order; the row of the chain's head; and one lock for all that is rare and rich (approvals, recent calls). The time is the
//! server's, read after the locks were taken.

mod batch;
mod open;
pub(crate) mod reading;
mod verify;
mod worker;

pub(crate) use worker::Worker;
