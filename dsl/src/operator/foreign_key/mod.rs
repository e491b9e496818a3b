//! Joins of tables by a foreign key: the left row has the key of the right one.
//!
//! | where | does | then |
//! |---|---|---|
//! | `subscribe`, with the left rows | finds each row's foreign key | sends a registration to the right row's partition |
//! | `respond`, with the right rows | keeps who has which foreign key | sends the right row to the left row's partition, when asked and when it changes |
//! | `combine`, with the left rows | discards what is about a value that the row no longer has | joins |
//!
//! Both ways are repartition topics, so that the two tables need not be partitioned alike. ADR 0027 tells what an inner join
//! has to be told.

mod combine;
mod message;
mod respond;
mod subscribe;

pub(crate) use combine::Combine;
pub(crate) use message::{
    Hashes, Registration, RegistrationSerde, Response, ResponseSerde, Subscriber, SubscriberSerde,
};
pub(crate) use respond::{Respond, RightInput, RightStores};
pub(crate) use subscribe::{ForeignJoinKind, ForeignKey, ForeignKeys, Subscribe};
