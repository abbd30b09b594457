//! `twinpost ctl`: gives an order to the node and shows the answer.
//!
//! The order goes to the running node through its control socket. When the node is stopped, the order is carried out here,
//! under the same lock that keeps a second node away: everything works on a stopped node too.

mod config;
mod pair;
mod pairing;
mod show;
mod sms;
mod system;

use crate::cli::{AccountOrder, ConfigOrder, Ctl, Order};
use crate::control::{CallError, Failure, Office, Progress, Request, call};
use crate::node::Folder;
use crate::rack::{control, control_path};
use crate::{EXIT_DONE, EXIT_FAILED, EXIT_FAULTS, complain};
use std::io::{IsTerminal, Read};
use std::path::Path;

/// Runs one control command; gives the exit code.
pub async fn run(arguments: Ctl) -> u8 {
    let Ctl { dir, json, mut order } = arguments;
    if let Some(code) = Box::pin(system::run(&order, json)).await {
        return code;
    }
    let dir = dir.unwrap_or_else(Folder::usual);
    let folder = Folder::find(&dir);
    if let Order::Config(order) = &order {
        match order {
            ConfigOrder::Reference => {
                let text = twinpost_config::markdown();
                show::note(&text, &serde_json::json!({ "markdown": text }), json);
                return EXIT_DONE;
            }
            ConfigOrder::Check { file } => return check(&file.clone().unwrap_or_else(|| folder.document()), json),
            ConfigOrder::Reload => {}
            ConfigOrder::Show => return config::print(&folder, json),
            ConfigOrder::Set { keys } => return config::set(&folder, keys, json),
        }
    }
    if let Order::Rack { words } = &order {
        return rack(&dir, words, json).await;
    }
    if let Order::Sms(order) = &order
        && let Some(code) = sms::run(order, &folder, json).await
    {
        return code;
    }
    if let Order::Pair(order) = &order
        && let Some(code) = Box::pin(pair::run(order, &dir, json)).await
    {
        return code;
    }
    let attachment = match complete(&mut order) {
        Ok(attachment) => attachment,
        Err(message) => {
            complain(&message);
            return EXIT_FAILED;
        }
    };
    let request = Request { order, actor: actor(), attachment_bytes: attachment.len() as u64 };
    let bar = Bar::new(json);
    let outcome = match call(&folder.socket(), &request, &attachment, |step| bar.step(step)).await {
        Err(CallError::NotRunning) => match Box::pin(pair::pass_on(folder.path(), &request)).await {
            Some(outcome) => outcome,
            None => execute_here(&folder, &request, &attachment, &bar).await,
        },
        Err(CallError::Refused(failure)) => Err(failure),
        Err(CallError::Broken(message)) => Err(Failure { message, exit: crate::EXIT_UNREACHABLE, found: None }),
        Ok(value) => Ok(value),
    };
    bar.end();
    match outcome {
        Ok(value) => {
            show::result(&request.order, &value, json);
            EXIT_DONE
        }
        Err(failure) => {
            show::failure(&request.order, &failure, json);
            failure.exit
        }
    }
}

/// A line for the rack of a pair.
async fn rack(dir: &Path, words: &[String], json: bool) -> u8 {
    match control::ask(&control_path(dir), &words.join(" ")).await {
        Err(message) => {
            complain(&message);
            crate::EXIT_UNREACHABLE
        }
        Ok(answer) => {
            let refused = answer.starts_with("error: ");
            let value = serde_json::from_str(&answer).unwrap_or_else(|_| serde_json::json!({ "answer": answer }));
            show::note(&answer, &value, json);
            if refused { EXIT_FAILED } else { EXIT_DONE }
        }
    }
}

/// The order on a stopped node.
async fn execute_here(folder: &Folder, request: &Request, attachment: &[u8], bar: &Bar) -> Result<serde_json::Value, Failure> {
    if !folder.document().exists() {
        let message = format!(
            "{} holds no node; start one with `twinpost up --dir DIR`, or name its folder with --dir",
            folder.path().display()
        );
        return Err(Failure { message, exit: crate::EXIT_UNREACHABLE, found: None });
    }
    if twinpost_config::load_node(folder.path()).is_ok_and(|node| node.pair.enabled) {
        let message =
            "no mail process answers: neither node of the pair serves now. `twinpost ctl pair status` says why".to_owned();
        return Err(Failure { message, exit: crate::EXIT_UNREACHABLE, found: None });
    }
    let (progress, mut steps) = tokio::sync::mpsc::unbounded_channel();
    let watch = async {
        while let Some(step) = steps.recv().await {
            bar.step(&step);
        }
    };
    let work = async {
        if matches!(request.order, Order::Store(crate::cli::StoreOrder::Rebuild)) {
            // The sender must go when the work ends, or the bar waits for more.
            let progress = progress;
            return Box::pin(Office::rebuild(folder, &progress)).await;
        }
        let office = Office::open(folder).await?;
        let result = Box::pin(office.execute(request.order.clone(), attachment, &request.actor, progress)).await;
        office.close().await;
        result
    };
    tokio::join!(work, watch).0
}

/// Fills in what comes from files and standard input; gives the attached file.
fn complete(order: &mut Order) -> Result<Vec<u8>, String> {
    match order {
        Order::Import { file, .. } => std::fs::read(&*file).map_err(|e| format!("cannot read {}: {e}", file.display())),
        Order::Account(
            AccountOrder::Add { password_stdin: true, password, .. }
            | AccountOrder::Password { password_stdin: true, password, .. },
        ) => {
            let mut text = String::new();
            std::io::stdin().take(4096).read_to_string(&mut text).map_err(|e| format!("cannot read the password: {e}"))?;
            *password = Some(text.trim_end_matches(['\r', '\n']).to_owned());
            Ok(Vec::new())
        }
        _ => Ok(Vec::new()),
    }
}

fn check(file: &Path, json: bool) -> u8 {
    match twinpost_config::load(file) {
        Ok(document) if crate::settings::sms::check(&document).is_err() => {
            let fault = crate::settings::sms::check(&document).err().unwrap_or_default();
            let list = [serde_json::json!({ "line": 0, "key": "sms", "message": fault })];
            show::note(&format!("{}: {fault}", file.display()), &serde_json::json!({ "file": file, "faults": list }), json);
            EXIT_FAULTS
        }
        Ok(_) => {
            show::note(&format!("{}: no faults", file.display()), &serde_json::json!({ "file": file, "faults": [] }), json);
            EXIT_DONE
        }
        Err(twinpost_config::Error::Faults(faults)) => {
            let list: Vec<_> =
                faults.sorted().iter().map(|f| serde_json::json!({"line": f.line, "key": f.key, "message": f.message})).collect();
            show::note(&faults.to_string(), &serde_json::json!({ "file": file, "faults": list }), json);
            EXIT_FAULTS
        }
        Err(error) => {
            complain(&error.to_string());
            EXIT_FAILED
        }
    }
}

fn actor() -> String {
    std::env::var("USER").unwrap_or_else(|_| format!("uid {}", nix::unistd::getuid()))
}

/// A progress bar on a terminal, nothing elsewhere.
struct Bar(Option<indicatif::ProgressBar>);

impl Bar {
    fn new(json: bool) -> Self {
        Self((!json && std::io::stderr().is_terminal()).then(indicatif::ProgressBar::hidden))
    }
    fn step(&self, step: &Progress) {
        let Some(bar) = &self.0 else { return };
        if bar.is_hidden() {
            bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
        }
        bar.set_length(step.total);
        bar.set_position(step.done);
        bar.set_message(step.text.clone());
        bar.set_style(
            indicatif::ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}")
                .unwrap_or_else(|_| indicatif::ProgressStyle::default_bar()),
        );
    }
    fn end(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
