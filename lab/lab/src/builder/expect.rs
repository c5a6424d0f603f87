//! What must hold in a lab, and changes to it.

use labctl_model::{Expected, Probe};

use super::{
    parts::part,
    value::{Map, Value},
};

part! {
    /// Something that must hold.
    Expect
}

impl Expect {
    /// A matrix as a table, as in a topology: a header of destinations, then a line for each source.
    ///
    /// ```
    /// # use lab::{Probe, builder::Expect};
    /// let matrix = Expect::table(Probe::Tcp(80), "
    ///     from\\to  c1   c2
    ///     c1       -    yes
    ///     c2       no   -
    /// ");
    /// ```
    pub fn table(probe: Probe, table: &str) -> Self {
        let rows: Vec<_> = table.lines().map(str::trim).filter(|row| !row.is_empty()).collect();
        Self::default().set("probe", probe.to_string()).set("table", rows.join("\n") + "\n")
    }

    /// Expects one verdict from all these sources to all these destinations. Words such as `all`, `hosts` or `containers`
    /// stand for several.
    pub fn cells(
        probe: Probe,
        from: impl IntoIterator<Item = impl Into<Value>>,
        to: impl IntoIterator<Item = impl Into<Value>>,
        verdict: Expected,
    ) -> Self {
        let list = |names: Vec<Value>| Value::List(names);
        Self::default()
            .set("probe", probe.to_string())
            .set("from", list(from.into_iter().map(Into::into).collect()))
            .set("to", list(to.into_iter().map(Into::into).collect()))
            .set("verdict", verdict.to_string())
    }

    /// Every endpoint reaches every other, by ping.
    pub fn all_meet() -> Self {
        Self::cells(Probe::Icmp, ["all"], ["all"], Expected::Yes)
    }

    /// Reaches the destinations by name instead of by address.
    pub fn by_name(self) -> Self {
        self.set("by", "name")
    }

    /// Sets how long it may take to become true, such as `10s`.
    pub fn within(self, duration: &str) -> Self {
        self.set("within", duration)
    }
}

part! {
    /// A change to the running lab, and what must hold after it.
    Step
}

impl Step {
    /// A step with one action in the words of the topology reference, such as `stop c1` or `disconnect c1 net`.
    pub fn new(action: &str) -> Self {
        Self(Map::default()).then(action)
    }

    /// Adds a further action.
    pub fn then(mut self, action: &str) -> Self {
        self.0.push("do", action);
        self
    }

    /// Adds what must hold after it.
    pub fn expect(mut self, expect: Expect) -> Self {
        self.0.push("expect", expect);
        self
    }

    /// Expects that the last action is refused with a message that contains `words`.
    pub fn fails(self, words: &str) -> Self {
        self.set("fails", words)
    }
}
