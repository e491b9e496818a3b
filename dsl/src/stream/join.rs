//! Joins of a stream with a table or with another stream.

use super::{KStream, resolve};
use crate::{
    DefaultSerde, KTable,
    operator::{LeftTableJoin, TableJoin},
    plan::{OperatorKind, Serdes, Step},
    table::Seen,
};
use headwater_core::serde::Data;
use std::sync::Arc;

/// What a `KStream<K, V>` can be joined with: `&KTable<K, _>`, a table [joined](KTable::joined) as told, or the records of another
/// stream [within](KStream::within) some time.
///
/// Example: [`KStream::join`].
#[diagnostic::on_unimplemented(
    message = "a stream with key `{K}` and value `{V}` cannot be joined with `{Self}`",
    label = "neither a table nor a stream within a window",
    note = "join it with a table by `join(&table, ..)`, and with a stream by `join(other.within(JoinWindows::..), ..)`; keys must be of one type"
)]
pub trait JoinWith<K, V>: sealed::Other {
    /// The values of the other side.
    type Other: Data;

    #[doc(hidden)]
    fn inner<V2: Data>(
        self,
        stream: &KStream<K, V>,
        join: impl Fn(&K, V, Self::Other) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2>;

    #[doc(hidden)]
    fn left<V2: Data>(
        self,
        stream: &KStream<K, V>,
        join: impl Fn(&K, V, Option<Self::Other>) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2>;
}

/// Nothing else can be joined with.
pub(super) mod sealed {
    use crate::{JoinedTable, KTable, StreamWithin};

    pub trait Other: Sized {}

    impl<K, T> Other for &KTable<K, T> {}
    impl<K, V, T> Other for JoinedTable<K, V, T> {}
    impl<K, V, VO> Other for StreamWithin<K, V, VO> {}
}

impl<K: DefaultSerde, V: DefaultSerde, T: Data> JoinWith<K, V> for &KTable<K, T> {
    type Other = T;

    fn inner<V2: Data>(
        self,
        stream: &KStream<K, V>,
        join: impl Fn(&K, V, T) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        stream.join_table(self, stream.known_serdes(), join)
    }

    fn left<V2: Data>(
        self,
        stream: &KStream<K, V>,
        join: impl Fn(&K, V, Option<T>) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        stream.left_join_table(self, stream.known_serdes(), join)
    }
}

impl<K: Data, V: Data> KStream<K, V> {
    /// Joins each record with a table's value of its key, or with the records of another stream that have its key and lie close
    /// enough in time.
    ///
    /// - `join(&table, ..)`: with the table's value as it is when the record arrives, or, where the table keeps
    ///   [versions](crate::Materialized::versioned), as it was at the record's time; a record whose key the table does not have is
    ///   dropped. Changes of the table forward nothing. `join(table.joined(..), ..)` gives a [name or a grace](KTable::joined).
    /// - `join(other.within(windows), ..)`: with each record of the other stream; see [`within`](KStream::within).
    ///
    /// Both sides must be partitioned alike: by one partitioner into equally many partitions, or the application does not start. A
    /// marked stream is repartitioned first, through a topic named after the stream's node.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let owners = builder.table::<String, String>("owners");
    /// let fines = builder.stream::<String, i64>("fines");
    /// fines.join(&owners, |fine, owner| format!("{owner} owes {fine}")).to("letters");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.input_topic::<String, String>("owners").pipe_input("car".into(), "Ada".into(), 1)?;
    /// let fines = driver.input_topic::<String, i64>("fines");
    /// fines.pipe_input("car".into(), 30, 2)?;
    /// fines.pipe_input("other".into(), 40, 3)?;
    /// let read = driver.output_topic::<String, String>("letters").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, ["Ada owes 30"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn join<J: JoinWith<K, V>, V2: Data>(
        &self,
        other: J,
        join: impl Fn(V, J::Other) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        other.inner(self, move |_, value, found| join(value, found))
    }

    /// As [`join`](Self::join), with the key at hand.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let owners = builder.table::<String, String>("owners");
    /// let fines = builder.stream::<String, i64>("fines");
    /// fines.join_with_key(&owners, |car, fine, owner| format!("{owner} owes {fine} for {car}")).to("letters");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.input_topic::<String, String>("owners").pipe_input("car".into(), "Ada".into(), 1)?;
    /// driver.input_topic::<String, i64>("fines").pipe_input("car".into(), 30, 2)?;
    /// let read = driver.output_topic::<String, String>("letters").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, ["Ada owes 30 for car"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn join_with_key<J: JoinWith<K, V>, V2: Data>(
        &self,
        other: J,
        join: impl Fn(&K, V, J::Other) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        other.inner(self, join)
    }

    /// As [`join`](Self::join), but a record that has no match comes out too: at once without a row of the table, and without a
    /// record of the other stream once none can come any more.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let owners = builder.table::<String, String>("owners");
    /// let fines = builder.stream::<String, i64>("fines");
    /// fines.left_join(&owners, |fine, owner| format!("{owner:?} owes {fine}")).to("letters");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.input_topic::<String, String>("owners").pipe_input("car".into(), "Ada".into(), 1)?;
    /// let fines = driver.input_topic::<String, i64>("fines");
    /// fines.pipe_input("car".into(), 30, 2)?;
    /// fines.pipe_input("other".into(), 40, 3)?;
    /// let read = driver.output_topic::<String, String>("letters").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, ["Some(\"Ada\") owes 30", "None owes 40"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn left_join<J: JoinWith<K, V>, V2: Data>(
        &self,
        other: J,
        join: impl Fn(V, Option<J::Other>) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        other.left(self, move |_, value, found| join(value, found))
    }

    /// As [`left_join`](Self::left_join), with the key at hand.
    #[must_use]
    pub fn left_join_with_key<J: JoinWith<K, V>, V2: Data>(
        &self,
        other: J,
        join: impl Fn(&K, V, Option<J::Other>) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        other.left(self, join)
    }

    /// An inner join with a table's rows as they are when records arrive, or were at their times.
    pub(super) fn join_table<T: Data, V2: Data>(
        &self,
        table: &KTable<K, T>,
        serdes: Serdes<K, V>,
        join: impl Fn(&K, V, T) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let (view, join) = (Arc::clone(&table.view), Arc::new(join));
        let (keyed, step) = self.beside(table, serdes, OperatorKind::Join);
        let node = self.plan.operator::<K, V, _>(step, move |context| {
            Ok(TableJoin::new(view.open(Seen::Newest, context)?, &join))
        });
        KStream { plan: keyed.plan, node, key: keyed.key, value: None }
    }

    /// The same of a left join.
    pub(super) fn left_join_table<T: Data, V2: Data>(
        &self,
        table: &KTable<K, T>,
        serdes: Serdes<K, V>,
        join: impl Fn(&K, V, Option<T>) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let (view, join) = (Arc::clone(&table.view), Arc::new(join));
        let (keyed, step) = self.beside(table, serdes, OperatorKind::LeftJoin);
        let node = self.plan.operator::<K, V, _>(step, move |context| {
            Ok(LeftTableJoin::new(view.open(Seen::Newest, context)?, &join))
        });
        KStream { plan: keyed.plan, node, key: keyed.key, value: None }
    }

    /// This stream partitioned by its key, and the step below it that reads the table's store.
    pub(super) fn beside<T: Data>(
        &self,
        table: &KTable<K, T>,
        serdes: Serdes<K, V>,
        kind: OperatorKind,
    ) -> (Self, Step) {
        let step = self.step(kind);
        let node = self.plan.keyed_for_join(self.node, step.name(), &serdes);
        let (plan, Serdes { key, value }) = (self.plan.clone(), serdes);
        let keyed = Self { plan, node, key: Some(key), value: Some(value) };
        (keyed, step.below(node).with_stores(table.view.stores()).copartitioned())
    }

    /// The serdes that the stream brings along, or else those of its types.
    pub(super) fn known_serdes(&self) -> Serdes<K, V>
    where
        K: DefaultSerde,
        V: DefaultSerde,
    {
        Serdes { key: resolve(self.key.as_ref()), value: resolve(self.value.as_ref()) }
    }
}
