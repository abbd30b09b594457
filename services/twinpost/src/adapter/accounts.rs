//! Sign-in for all protocols over the directory.

use std::net::IpAddr;
use twinpost_directory::{Directory, Service, SignInError};
use twinpost_sasl::{Accounts, Denied, Identity, Password, ScramSecret};

/// The directory as sign-in sees it.
#[derive(Clone)]
pub struct SignIn(pub Directory);

fn service(name: &str) -> Service {
    match name {
        "imap" => Service::Imap,
        "pop3" => Service::Pop3,
        _ => Service::Submission,
    }
}

fn denied(error: SignInError) -> Denied {
    match error {
        SignInError::Wrong => Denied::Credentials,
        SignInError::Suspended => Denied::Suspended,
        SignInError::NotAllowed(_) => Denied::Service,
        SignInError::Busy => Denied::Unavailable,
        SignInError::Directory(error) => {
            tracing::error!(%error, "the directory cannot answer a sign-in");
            Denied::Unavailable
        }
    }
}

fn identity(found: &twinpost_directory::Identity) -> Identity {
    Identity { account: found.account, address: found.address.to_string() }
}

impl Accounts for SignIn {
    async fn check_password(&self, user: &str, password: &Password, name: &str, _: IpAddr) -> Result<Identity, Denied> {
        self.0.authenticate(user, password.reveal(), service(name)).await.map(|i| identity(&i)).map_err(denied)
    }
    async fn scram_secret(&self, user: &str) -> Result<ScramSecret, Denied> {
        self.0.scram_secret(user).await.map_err(denied)
    }
    async fn scram_done(&self, user: &str, name: &str, _: IpAddr) -> Result<Identity, Denied> {
        self.0.identity(user, service(name)).map(|i| identity(&i)).map_err(denied)
    }
}
