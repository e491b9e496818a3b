//! Topics are created once.

use super::{Case, refusal, topic};
use headwater_core::ports::log::{Cleanup, Durability, Log, LogError, TopicSpec};
use std::sync::Arc;

pub(super) const CASES: &[Case] = &[a_topic_is_created_once];

fn a_topic_is_created_once(log: &Arc<dyn Log>) {
    let (durability, cleanup) = (Durability::Os, Cleanup::Compact);
    let spec = TopicSpec { durability, cleanup, ..TopicSpec::new(topic("t"), 3) };
    log.create_topic(&spec).expect("it can be created");
    log.create_topic(&spec).expect("it is there already");
    let differs = refusal(log.create_topic(&TopicSpec::new(topic("t"), 4)));
    let figures = matches!(&differs, LogError::TopicDiffers { existing: 3, wanted: 4, .. });
    assert!(figures, "{differs}");
    let none = refusal(log.create_topic(&TopicSpec::new(topic("u"), 0)));
    assert!(matches!(&none, LogError::PartitionCount { wanted: 0, .. }), "{none}");
    assert_eq!(log.topics().expect("they can be listed"), [spec]);
}
