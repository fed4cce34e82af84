//! How a revision takes another one's place: what it would have decided is compared with what was, it answers a share of
//! the enrollments, it is promoted if it keeps to its gates, and what ran before watches it for a while.
//!
//! [`seat`] is what answers the calls of one hook of a plugin; [`lane`] runs what is only compared, beside the calls that
//! count and within a [`budget`]; [`tally`] counts on this node, and [`gates`] judges what all nodes have counted. Who may start, promote and stop
//! is for the manager; where all of it is kept, for whoever implements [`store::RolloutStore`].

pub(crate) mod breaker;
pub(crate) mod budget;
pub(crate) mod gates;
pub(crate) mod lane;
pub(crate) mod report;
pub(crate) mod seat;
pub(crate) mod store;
pub(crate) mod tally;

pub use self::breaker::BreakerSettings;
pub use self::gates::{GateFailure, Gates};
pub use self::report::{Calls, ComparisonReport, Difference};
pub use self::store::{
    Counted, CountedByNode, NewRollout, Node, RolloutPhase, RolloutStore, StagedRollout, StoredRollout,
};
pub use self::tally::Sample;
