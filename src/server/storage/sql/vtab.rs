//! The virtual table `metrics` (sqlite.org/vtab.html): agent, metric and time are pushed down to
//! the day files, so that only what they leave is unpacked.
#![allow(unsafe_code, reason = "rusqlite's traits of virtual tables are unsafe to implement")]

use std::borrow::Cow;
use std::ffi::{CStr, c_int};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use rusqlite::types::ValueRef;
use rusqlite::vtab::{
    Context, Filters, IndexConstraintOp as Op, IndexInfo, Module, VTab, VTabConnection, VTabCursor,
};
use rusqlite::{Connection, Error, ffi};

use crate::server::storage::StorageError;
use crate::server::storage::day::file::date_of;
use crate::server::storage::sql::scan::{PointOf, Scan, Want};

const NAME: &CStr = c"metrics";
/// The columns of `metrics` (docs/compatibility.md), in their order; times are Unix milliseconds.
const DECLARATION: &CStr = c"CREATE TABLE x(id TEXT, timestamp INTEGER, agent_id TEXT, \
    metric_name TEXT, value REAL, labels TEXT, created_at INTEGER)";
const TIMESTAMP: c_int = 1;
const AGENT: c_int = 2;
const METRIC: c_int = 3;

/// What the table reads.
pub(super) struct Source {
    data_dir: PathBuf,
    days: Vec<i64>,
}

/// Makes the table known to a connection.
pub(super) fn register(
    connection: &Connection,
    data_dir: &Path,
    days: &[i64],
) -> rusqlite::Result<()> {
    const MODULE: Module<'_, Table> = Module::eponymous_only_module();
    let source = Source { data_dir: data_dir.to_owned(), days: days.to_vec() };
    connection.create_module(NAME, &MODULE, Some(source))
}

/// The table. SQLite sees its first field.
#[repr(C)]
struct Table {
    base: ffi::sqlite3_vtab,
    data_dir: PathBuf,
    days: Vec<i64>,
}

/// What a constraint on a column says to a scan; its code in the plan that `best_index` makes.
#[derive(Clone, Copy)]
enum Push {
    Agent = b'a' as isize,
    Metric = b'm' as isize,
    At = b'=' as isize,
    From = b'>' as isize,
    To = b'<' as isize,
}

impl Push {
    fn of(column: c_int, operator: Op) -> Option<Self> {
        match (column, operator) {
            (AGENT, Op::SQLITE_INDEX_CONSTRAINT_EQ) => Some(Self::Agent),
            (METRIC, Op::SQLITE_INDEX_CONSTRAINT_EQ) => Some(Self::Metric),
            (TIMESTAMP, Op::SQLITE_INDEX_CONSTRAINT_EQ) => Some(Self::At),
            // SQLite checks the bound itself once more, so that > may be taken for >=.
            (TIMESTAMP, Op::SQLITE_INDEX_CONSTRAINT_GE | Op::SQLITE_INDEX_CONSTRAINT_GT) => {
                Some(Self::From)
            }
            (TIMESTAMP, Op::SQLITE_INDEX_CONSTRAINT_LE | Op::SQLITE_INDEX_CONSTRAINT_LT) => {
                Some(Self::To)
            }
            _ => None,
        }
    }

    fn apply(code: u8, value: ValueRef<'_>, want: &mut Want) {
        let text = value.as_str().ok().map(str::to_owned);
        // A bound that is not a whole number leaves the test to SQLite alone.
        let floor = match value {
            ValueRef::Integer(number) => Some(number),
            ValueRef::Real(number) => Some(number.floor() as i64),
            _ => None,
        };
        let ceiling = floor.map(|number| number.saturating_add(1));
        match code {
            b'a' => want.agent = text.or_else(|| want.agent.take()),
            b'm' => want.metric = text.or_else(|| want.metric.take()),
            b'=' => {
                want.from = floor.map_or(want.from, |at| want.from.max(at));
                want.to = ceiling.map_or(want.to, |at| want.to.min(at));
            }
            b'>' => want.from = floor.map_or(want.from, |at| want.from.max(at)),
            _ => want.to = ceiling.map_or(want.to, |at| want.to.min(at)),
        }
    }
}

// SAFETY: `Table` is `repr(C)` with `sqlite3_vtab` first, as the trait asks.
unsafe impl<'vtab> VTab<'vtab> for Table {
    type Aux = Source;
    type Cursor = Cursor<'vtab>;

    fn connect(
        _db: &mut VTabConnection,
        source: Option<&Source>,
        _module: &[u8],
        _database: &[u8],
        _table: &[u8],
        _args: &[&[u8]],
    ) -> rusqlite::Result<(Cow<'static, CStr>, Self)> {
        let (data_dir, days) = source
            .map(|source| (source.data_dir.clone(), source.days.clone()))
            .ok_or_else(|| Error::ModuleError("the table has no folder".to_owned()))?;
        let table = Self { base: ffi::sqlite3_vtab::default(), data_dir, days };
        Ok((Cow::Borrowed(DECLARATION), table))
    }

    fn best_index(&self, info: &mut IndexInfo) -> rusqlite::Result<bool> {
        let mut plan = String::new();
        // Each constraint that is pushed down makes the scan so much cheaper.
        let mut cost = 1e9;
        for (constraint, mut usage) in info.constraints_and_usages() {
            let push = Push::of(constraint.column(), constraint.operator());
            if let Some(push) = push.filter(|_| constraint.is_usable()) {
                plan.push(char::from(push as u8));
                usage.set_argv_index(plan.len() as c_int);
                cost /= 30.0;
            }
        }
        info.set_idx_str(&plan);
        info.set_estimated_cost(cost);
        Ok(true)
    }

    fn open(&'vtab mut self) -> rusqlite::Result<Cursor<'vtab>> {
        Ok(Cursor {
            base: ffi::sqlite3_vtab_cursor::default(),
            data_dir: self.data_dir.clone(),
            days: self.days.clone(),
            scan: None,
            point: None,
            row: 0,
            table: PhantomData,
        })
    }
}

/// One pass over the table. SQLite sees its first field.
#[repr(C)]
struct Cursor<'vtab> {
    base: ffi::sqlite3_vtab_cursor,
    data_dir: PathBuf,
    days: Vec<i64>,
    scan: Option<Scan>,
    point: Option<PointOf>,
    row: i64,
    table: PhantomData<&'vtab Table>,
}

// SAFETY: `Cursor` is `repr(C)` with `sqlite3_vtab_cursor` first, as the trait asks.
unsafe impl VTabCursor for Cursor<'_> {
    fn filter(
        &mut self,
        _number: c_int,
        plan: Option<&str>,
        args: &Filters<'_>,
    ) -> rusqlite::Result<()> {
        let mut want = Want { agent: None, metric: None, from: i64::MIN, to: i64::MAX };
        for (code, value) in plan.unwrap_or_default().bytes().zip(args.iter()) {
            Push::apply(code, value, &mut want);
        }
        self.scan = Some(Scan::new(&self.data_dir, &self.days, want));
        self.row = 0;
        self.next()
    }

    fn next(&mut self) -> rusqlite::Result<()> {
        self.row += 1;
        self.point = match &mut self.scan {
            Some(scan) => scan.next().map_err(|error| Error::ModuleError(told(&error)))?,
            None => None,
        };
        Ok(())
    }

    fn eof(&self) -> bool {
        self.point.is_none()
    }

    fn column(&self, context: &mut Context, column: c_int) -> rusqlite::Result<()> {
        let Some(point) = &self.point else { return Ok(()) };
        let owner = &point.owner;
        match column {
            0 => {
                let day = date_of(crate::server::storage::day::file::day_of(point.timestamp));
                context.set_result(format!("{day}-{}-{}", owner.id, point.timestamp))
            }
            TIMESTAMP => context.set_result(point.timestamp),
            AGENT => context.set_result(&*owner.agent),
            METRIC => context.set_result(owner.metric.as_str()),
            4 => context.set_result(point.value),
            5 => context.set_result(owner.labels.as_str()),
            _ => context.set_result(point.received),
        }
    }

    fn rowid(&self) -> rusqlite::Result<i64> {
        Ok(self.row)
    }
}

/// An error as the one who asked can use it.
fn told(error: &StorageError) -> String {
    match error {
        StorageError::Damaged { .. } => format!(
            "{error} (a server sets the file aside when it next reads it; a condition on \
             timestamp leaves its day out)"
        ),
        _ => error.to_string(),
    }
}
