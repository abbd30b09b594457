//! The program `twinpost-image`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use twinpost_image::{Inputs, Progress};

/// Builds the appliance image.
#[derive(Parser)]
#[command(version)]
struct Options {
    #[command(subcommand)]
    order: Order,
}

#[derive(clap::Subcommand)]
enum Order {
    /// Build the image from its recipe.
    Build {
        /// The twinpost program to put into it.
        #[arg(long)]
        binary: PathBuf,
        /// The initramfs program, static.
        #[arg(long)]
        init: PathBuf,
        /// Folder for the image.
        #[arg(long)]
        out: PathBuf,
        /// Root of the repository.
        #[arg(long, default_value = ".")]
        repository: PathBuf,
        /// Time of everything in the image and sequence of the release, seconds since 1970.
        #[arg(long, env = "SOURCE_DATE_EPOCH")]
        epoch: u64,
        /// Folder of what earlier builds made.
        #[arg(long)]
        cache: PathBuf,
        /// Fetch the packages again.
        #[arg(long)]
        fresh: bool,
    },
}

fn main() -> ExitCode {
    let Order::Build { binary, init, out, repository, epoch, cache, fresh } = Options::parse().order;
    let inputs = Inputs {
        repository,
        binary,
        init,
        profile: "release".into(),
        epoch_s: epoch,
        version: env!("CARGO_PKG_VERSION").into(),
        commit: String::new(),
        cache,
        fresh,
    };
    match twinpost_image::build(&inputs, &out, &Progress::default()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
