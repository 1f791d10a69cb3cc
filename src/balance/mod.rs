//! Requests to backends.
//!
//! ```text
//!   pick(key) ──► layers narrow the candidates ──► the policy chooses one of them ──► slot
//!                 Trusted: labels satisfy a policy       RoundRobin, LeastConnections, PeakEwma, …
//!                 Healthy: not ejected, warmed up
//!   done(slot, outcome) ──► the policy learns the load, the layers learn the health
//! ```
//!
//! A [`Balancer`] is one table of backends, one [`Policy`] over it, and any number of layers. A caller names the
//! layers that it looks through (its *view*), so that a bare policy and the same policy behind `Healthy` count
//! the same requests. Backends are known by *slot*, a small number that is used again only after its backend has
//! gone; what a backend really is, the caller keeps.
//!
//! Time is handed in and randomness is seeded, so a simulated minute of requests runs the same way every time.

mod alias;
mod balancer;
mod hashed;
mod healthy;
mod least_connections;
mod peak_ewma;
mod policy;
mod stateless;
mod trusted;
mod two_choices;
mod weighted_round_robin;

pub use alias::Alias;
pub use balancer::{Balancer, Counters, Event, LeaseId, NoBackend, Refusal, SlotState, View};
pub use hashed::{BoundedHashed, Hashed, NOWHERE, Placement, Places};
pub use healthy::{HealthSettings, Healthy};
pub use least_connections::LeastConnections;
pub use peak_ewma::PeakEwma;
pub use policy::{Outcome, Policy, Request};
pub use stateless::{RandomChoice, RoundRobin, Stateless, WeightedRandom};
pub use trusted::Trusted;
pub use two_choices::TwoChoices;
pub use weighted_round_robin::WeightedRoundRobin;

/// Index of a backend in its balancer's table.
pub type Slot = u32;
