//! Whether this node serves, as gRPC clients ask (`grpc.health.v1`).
//!
//! Owns: the answer.
//! Does not know: how the store is tried, and how often (`probe`).
//! Invariants: a node that drains serves no more, nor does one whose store fails; all services have one
//! store, so they have one status; who watches is told of the drain, and then that this was the end;
//! however many watch, they leave room for other requests.
#![forbid(unsafe_code)]

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, stream};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::front::drain::drained;
use crate::front::listen::Shared;
use crate::front::probe::FrontProbe;

/// Who watches takes none of the room of other requests: one in so many may.
const WATCHERS_SHARE: u64 = 8;
/// How often a watcher's status is looked at again.
const LOOK: Duration = Duration::from_secs(5);
/// A store that takes longer does not serve.
const LIMIT: Duration = Duration::from_secs(5);

/// The service.
#[derive(Clone)]
pub(super) struct HealthOf(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    /// Room for more who watch.
    watchers: Arc<Semaphore>,
    services: Vec<&'static str>,
}

impl HealthOf {
    /// The health of these services.
    pub(super) fn new(shared: Arc<Shared>, services: Vec<&'static str>) -> Self {
        let most = (shared.limits.requests / WATCHERS_SHARE).max(1);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Self(Arc::new(Inner {
            shared,
            watchers: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
            services,
        }))
    }

    fn knows(&self, service: &str) -> bool {
        // The empty name is the node as a whole.
        service.is_empty() || self.0.services.contains(&service)
    }

    async fn status(&self) -> ServingStatus {
        match !*self.0.shared.draining.borrow() && self.0.store_works().await {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        }
    }

    /// The status, once it is another one than `told`; `None` when none will come.
    async fn change(&self, told: ServingStatus) -> Option<ServingStatus> {
        let mut draining = self.0.shared.draining.clone();
        let other = async {
            loop {
                let status = self.status().await;
                if status != told {
                    return status;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            biased;
            // While draining there is nothing left to come.
            () = drained(&mut draining) => {
                (told == ServingStatus::Serving).then_some(ServingStatus::NotServing)
            }
            status = other => Some(status),
        }
    }
}

impl Inner {
    async fn store_works(&self) -> bool {
        let probe = FrontProbe(Arc::clone(&self.shared));
        let checked = tokio::time::timeout(LIMIT, probe.check()).await;
        matches!(checked, Ok(Ok(())))
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

#[tonic::async_trait]
impl Health for HealthOf {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = &request.get_ref().service;
        if !self.knows(service) {
            return Err(Status::not_found(format!("no service `{service}` here")));
        }
        Ok(Response::new(answer(self.status().await)))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let known = self.knows(&request.get_ref().service);
        let watchers = Arc::clone(&self.0.watchers);
        let place = watchers.try_acquire_owned().map_err(|_| {
            Status::resource_exhausted("as many watch this node's health as may; ask with `Check`")
        })?;
        let state = (self.clone(), None, place);
        let statuses = stream::unfold(state, move |(health, told, place)| async move {
            let status = match told {
                Some(told) if known => health.change(told).await?,
                None if known => health.status().await,
                // It may come to be known some day, says the protocol; here it never does.
                Some(_) => {
                    drained(&mut health.0.shared.draining.clone()).await;
                    return None;
                }
                None => ServingStatus::ServiceUnknown,
            };
            Some((Ok(answer(status)), (health, Some(status), place)))
        });
        Ok(Response::new(Box::pin(statuses)))
    }
}
