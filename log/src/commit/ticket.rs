//! Awaiting one commit.

use super::Shared;
use headwater_core::ports::log::{CommitTicket, LogError, Receipt};
use std::sync::{Arc, mpsc::Receiver};

/// The committer's answer, once it is there.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) answer: Receiver<Result<Receipt, LogError>>,
    pub(crate) shared: Arc<Shared>,
}

impl CommitTicket for Ticket {
    fn wait(self: Box<Self>) -> Result<Receipt, LogError> {
        self.answer.recv().unwrap_or_else(|_| Err(self.shared.closed()))
    }
}
