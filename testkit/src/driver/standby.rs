//! A second instance on a driver's log, which keeps its stores ready and takes over.

use super::{Inner, KeptState, TopologyTestDriver};
use crate::TestDriverError;
use headwater_core::ports::log::Log;
use headwater_engine::runtime::{Standby, StateSnapshot, StreamsConfig};
use headwater_state::MemoryState;
use std::{cell::RefCell, fmt, rc::Rc, sync::Arc};

/// A standby of the application that a driver runs, with a state of its own.
///
/// ```
/// use headwater_core::serde::for_type;
/// # use headwater_engine::{processor::{Context, InitContext, Record}, store::KeyValueStore};
/// # use headwater_engine::topology::{Consumed, Topology};
/// use headwater_testkit::TopologyTestDriver;
///
/// let mut topology = Topology::new();
/// topology.add_source("in", "cars", Consumed::<String, i64>::default())?;
/// // ... a processor that keeps the newest value of each key in the store `newest`
/// # let store = KeyValueStore::<String, i64>::builder("newest", for_type(), for_type());
/// # let keep = |record: Record<String, i64>, context: &mut Context<'_, (), ()>| {
/// #     let store = context.state_store::<KeyValueStore<String, i64>>("newest")?;
/// #     store.put(&record.key, Some(record.value), record.timestamp)?;
/// #     Ok(())
/// # };
/// # topology.add_processor_fn("keep", keep, &["in"])?.add_state_store(store, &["keep"])?;
/// let active = TopologyTestDriver::new(topology)?;
/// let mut standby = active.standby()?;
/// active.pipe::<String, i64>("cars", "a=1@1 b=2@2")?;
/// assert_eq!(standby.update()?, 2, "it follows");
/// active.crash();
/// let active = standby.promote()?;
/// let newest = active.key_value_store::<String, i64>("newest")?;
/// assert_eq!(newest.get(&"b".into())?.unwrap().value, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TestStandby {
    active: Rc<RefCell<Inner>>,
    state: Arc<KeptState>,
    config: StreamsConfig,
    standby: Standby,
}

impl fmt::Debug for TestStandby {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TestStandby")
    }
}

impl TopologyTestDriver {
    /// A second instance of the application, which keeps its stores ready on a state in memory of its own, and can take over.
    ///
    /// # Errors
    ///
    /// [`TestDriverError::Streams`] if it cannot be one: what [`Standby::new`] returns.
    pub fn standby(&self) -> Result<TestStandby, TestDriverError> {
        self.standby_with(|config| config)
    }

    /// The same under a configuration of its own, such as one with listeners, made of the application's.
    ///
    /// # Errors
    ///
    /// As [`standby`](Self::standby).
    pub fn standby_with(
        &self,
        configure: impl FnOnce(StreamsConfig) -> StreamsConfig,
    ) -> Result<TestStandby, TestDriverError> {
        let inner = self.inner.borrow();
        let config = configure(inner.config.clone());
        let state = Arc::new(KeptState::new(Arc::new(MemoryState::new())));
        let (topology, log) = (inner.topology.clone(), Arc::clone(&inner.log));
        let (kept, clock) = (Arc::clone(&state) as Arc<_>, Arc::clone(&inner.clock));
        let standby = Standby::new(topology, &config, log, kept, clock)?;
        Ok(TestStandby { active: Rc::clone(&self.inner), state, config, standby })
    }
}

impl TestStandby {
    /// Brings its stores to where their changelogs end now. Says how many records that took.
    ///
    /// # Errors
    ///
    /// [`TestDriverError::Streams`] if the log or the state fails.
    pub fn update(&mut self) -> Result<u64, TestDriverError> {
        Ok(self.standby.update()?)
    }

    /// How many offsets it would have to replay, if it took over now.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update).
    pub fn lag(&self) -> Result<u64, TestDriverError> {
        Ok(self.standby.lag()?)
    }

    /// Gives its stores as of the last update.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update).
    pub fn snapshot(&self) -> Result<StateSnapshot, TestDriverError> {
        Ok(self.standby.snapshot()?)
    }

    /// Takes over: starts the application where its last commit left it, on the stores that are here. The instance that it takes
    /// over from may be there still: it commits nothing any more.
    ///
    /// # Errors
    ///
    /// [`TestDriverError::Streams`] if it cannot start: what [`Driver::new`](headwater_engine::runtime::Driver::new) returns.
    pub fn promote(self) -> Result<TopologyTestDriver, TestDriverError> {
        let Self { active, state, config, standby } = self;
        let _stores = standby.promote();
        let active = active.borrow();
        let mut inner = Inner {
            topology: active.topology.clone(),
            config,
            log: Arc::clone(&active.log) as Arc<dyn Log>,
            state,
            clock: Arc::clone(&active.clock),
            driver: None,
            eager: active.eager,
            piped: active.piped.clone(),
        };
        inner.start()?;
        Ok(TopologyTestDriver { inner: Rc::new(RefCell::new(inner)) })
    }
}
