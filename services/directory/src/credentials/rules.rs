//! What a new password must be. Length is what counts (NIST SP 800-63B 3.1.1.2): no rules about kinds of characters.

use crate::error::PasswordFault;

/// Longer passwords would let a client keep the processor busy.
pub(crate) const PASSWORD_MAX_BYTES: usize = 512;

/// Checks a new password. `names`: what everyone knows of the account (address, local part, person's name).
pub(crate) fn check_password(password: &str, names: &[&str], min_chars: usize) -> Result<(), PasswordFault> {
    let chars = password.chars().count();
    if password.len() > PASSWORD_MAX_BYTES {
        return Err(PasswordFault::Long);
    }
    if password.chars().any(char::is_control) {
        return Err(PasswordFault::Control);
    }
    if chars < min_chars.max(1) {
        return Err(PasswordFault::Short { chars, min: min_chars.max(1) });
    }
    let lower = password.to_lowercase();
    if names.iter().any(|n| !n.is_empty() && n.to_lowercase() == lower) {
        return Err(PasswordFault::Name);
    }
    let mut all = password.chars();
    let first = all.next();
    if chars > 1 && all.all(|c| Some(c) == first) {
        return Err(PasswordFault::Repeated);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_is_named() {
        let check = |p: &str| check_password(p, &["anna.berg", "anna.berg@school.example", "Anna Berg"], 8);
        assert_eq!(check("correct horse"), Ok(()));
        assert_eq!(check("八个汉字也可以了"), Ok(()));
        assert_eq!(check("short"), Err(PasswordFault::Short { chars: 5, min: 8 }));
        assert_eq!(check("Anna.Berg"), Err(PasswordFault::Name));
        assert_eq!(check("anna.berg@SCHOOL.example"), Err(PasswordFault::Name));
        assert_eq!(check("anna berg"), Err(PasswordFault::Name));
        assert_eq!(check("aaaaaaaaaa"), Err(PasswordFault::Repeated));
        assert_eq!(check("with\0nought"), Err(PasswordFault::Control));
        assert_eq!(check(&"ab".repeat(257)), Err(PasswordFault::Long));
    }
}
