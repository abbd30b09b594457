//! A private database for each test, on SQLite and on PostgreSQL (cargo feature `testing`).
//!
//! Contract: [`Place::sqlite`] and [`Place::postgres`] give an empty place that nobody else uses and that vanishes
//! with the test process. The PostgreSQL server comes from the system's package, is started once a test process in a
//! temporary folder, listens on a Unix socket only and runs with its durable defaults. A shell that reads our pipe
//! stops it: the pipe closes when the test process ends in whatever way, so no server outlives a killed test.
//!
//! Failure class: everything here panics with the reason. A test that cannot have its database must not pass.

use crate::{Database, Location};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where the tables of one test are. Keep it as long as the database is open.
#[derive(Debug)]
pub struct Place {
    location: Location,
    _dir: Option<tempfile::TempDir>,
}

impl Place {
    /// A SQLite file in a temporary folder of its own.
    ///
    /// # Panics
    /// When the folder cannot be made.
    #[must_use]
    pub fn sqlite() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder for the test's database can be made");
        Self { location: Location::Sqlite(dir.path().join("test.sqlite")), _dir: Some(dir) }
    }

    /// A schema of its own on the PostgreSQL server of this test process, which is started at the first call.
    ///
    /// # Panics
    /// When PostgreSQL is not installed or does not start; the text says what to do.
    #[must_use]
    pub fn postgres() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let schema = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        Self { location: Location::Postgres { url: server().url.clone(), schema }, _dir: None }
    }

    /// What to hand to [`Database::open`].
    #[must_use]
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Opens the database here with two readers.
    ///
    /// # Panics
    /// When it does not open.
    pub async fn open(&self) -> Database {
        Database::open(&self.location, 2).await.expect("the test's database opens")
    }
}

/// Makes of each named `async fn name(place: &Place)` two tests: `on_sqlite::name` and `on_postgres::name`.
#[macro_export]
macro_rules! on_both_engines {
    ($($name:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test] async fn $name() { super::$name(&$crate::testing::Place::sqlite()).await; })*
        }
        mod on_postgres {
            $(#[tokio::test] async fn $name() { super::$name(&$crate::testing::Place::postgres()).await; })*
        }
    };
}

struct Server {
    url: String,
    _guard: Child,
}

/// The server's life: made, started, `ready DIR` on stdout, then until stdin ends, then gone.
/// `pg_ctl` moves the server into a session of its own, so an interrupt key reaches neither it nor, by the trap, us.
const LIFE: &str = r#"
trap '' INT TERM HUP
bin=$1
umask 077
dir=$(mktemp -d "${TMPDIR:-/tmp}/twinpost-pg.XXXXXX") || exit 1
if "$bin/initdb" -D "$dir/data" -U twinpost -A trust -E UTF8 --locale=C --no-sync >"$dir/log" 2>&1 &&
   "$bin/pg_ctl" -D "$dir/data" -w -t 60 -l "$dir/log" -o "-k $dir -c listen_addresses= -c max_connections=200" start >/dev/null 2>&1
then echo "ready $dir"; exec 1>&-; cat >/dev/null
else cat "$dir/log" >&2
fi
"$bin/pg_ctl" -D "$dir/data" -m immediate stop >/dev/null 2>&1
rm -rf "$dir"
"#;

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(start)
}

fn start() -> Server {
    let bin = newest_bin().unwrap_or_else(|| {
        panic!("PostgreSQL's server is not in /usr/lib/postgresql: install the package `postgresql` (apt-get install postgresql)")
    });
    // PostgreSQL refuses to run as root: then it runs as the user that its package made.
    let id = Command::new("id").arg("-u").output().expect("`id` is on every system");
    let mut command = if id.stdout.trim_ascii() == b"0" {
        let mut c = Command::new("runuser");
        c.args(["-u", "postgres", "--", "sh"]);
        c
    } else {
        Command::new("sh")
    };
    let mut guard = command
        .args(["-c", LIFE, "sh", &bin])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("cannot start PostgreSQL from {bin}: {e}"));
    let stdout = guard.stdout.take().expect("the pipe was asked for above");
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).expect("the server's starter writes UTF-8");
    let Some(dir) = line.trim().strip_prefix("ready ") else {
        panic!("PostgreSQL from {bin} did not start: its log is above");
    };
    Server { url: format!("postgres://twinpost@localhost/postgres?host={dir}"), _guard: guard }
}

/// The folder of the newest installed server's programs, as the Debian package lays them out.
fn newest_bin() -> Option<String> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    versions
        .filter_map(|v| v.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|v| std::path::Path::new(&format!("/usr/lib/postgresql/{v}/bin/initdb")).exists())
        .max()
        .map(|v| format!("/usr/lib/postgresql/{v}/bin"))
}
