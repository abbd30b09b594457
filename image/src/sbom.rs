//! The software bill of materials: SPDX 2.3 in JSON.
//!
//! Contract: lists every Debian package of which something is in the image (root file system, kernel, boot loader) and every crate in our
//! programs, with version, supplier, licence and checksum as far as they are written down somewhere; what nobody says is NOASSERTION.
//! Equal inputs give equal bytes. Source: SPDX 2.3, clauses 6 to 11. Failure classes: cargo, dpkg's records.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::Inputs;
use crate::build::Parts;
use crate::crates::{self, Crate};
use crate::disk;
use crate::error::{Error, Result};
use crate::licence::{self, Reference};
use crate::packages::Package;

/// Packages of our programs.
const PROGRAMS: [&str; 2] = ["twinpost", "twinpost-init"];
const NOBODY: &str = "NOASSERTION";

/// The bill as a file.
pub fn document(parts: &Parts, inputs: &Inputs) -> Result<Vec<u8>> {
    let mut inside: BTreeSet<&str> = parts.tree.iter().filter_map(|(_, entry)| entry.package.as_deref()).collect();
    // The kernel and the boot loader are beside the root file system, on the ESP.
    let beside =
        |package: &&Package| package.name == format!("linux-image-{}", parts.release) || package.name == "systemd-boot-efi";
    inside.extend(parts.packages.iter().filter(beside).map(|package| package.name.as_str()));
    let packages: Vec<&Package> = parts.packages.iter().filter(|package| inside.contains(package.name.as_str())).collect();
    let crates = crates::read(&inputs.repository, &PROGRAMS)?;
    let mut text = serde_json::to_vec_pretty(&spdx(&packages, &crates, inputs))
        .map_err(|error| Error::Format { what: "SBOM".into(), why: error.to_string() })?;
    text.push(b'\n');
    Ok(text)
}

fn spdx(packages: &[&Package], crates: &[Crate], inputs: &Inputs) -> Value {
    let mut references = BTreeSet::new();
    let image = json!({
        "SPDXID": "SPDXRef-image",
        "name": "twinpost-image",
        "versionInfo": inputs.version,
        "supplier": "Organization: Twinpost",
        "downloadLocation": NOBODY,
        "filesAnalyzed": false,
        "licenseConcluded": NOBODY,
        "licenseDeclared": NOBODY,
        "copyrightText": NOBODY,
        "primaryPackagePurpose": "FIRMWARE",
        "comment": format!("commit {}, sequence {}", inputs.commit, inputs.epoch_s),
    });
    let mut all = vec![image];
    let mut relations = vec![relation("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-image")];
    for package in packages {
        all.push(debian(package, &mut references));
        relations.push(relation("SPDXRef-image", "CONTAINS", &id("deb", &package.name, "")));
    }
    for one in crates {
        all.push(rust(one));
        let (from, kind) = if PROGRAMS.contains(&one.name.as_str()) {
            ("SPDXRef-image", "CONTAINS")
        } else {
            ("SPDXRef-crate-twinpost", "STATIC_LINK")
        };
        // Crates of our own have the version of the release, so the program's id is without one.
        relations.push(relation(from, kind, &crate_id(one)));
    }
    let texts: Vec<Value> = references
        .iter()
        .map(|reference| json!({ "licenseId": reference.id, "name": reference.name, "extractedText": "See the copyright file of the Debian package." }))
        .collect();
    let content = blake3::hash(format!("{all:?}").as_bytes()).to_hex();
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("twinpost-{}", inputs.version),
        "documentNamespace": format!("urn:uuid:{}", disk::identifier(&inputs.version, &format!("sbom {content}"))),
        "creationInfo": { "created": crate::iso8601(inputs.epoch_s), "creators": [format!("Tool: twinpost-image-{}", env!("CARGO_PKG_VERSION"))] },
        "packages": all,
        "hasExtractedLicensingInfos": texts,
        "relationships": relations,
    })
}

fn relation(from: &str, kind: &str, to: &str) -> Value {
    json!({ "spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to })
}

/// Letters, digits, `.` and `-` only (SPDX 2.3, 3.2.4).
fn id(kind: &str, name: &str, version: &str) -> String {
    let name: String = name.chars().map(|char| if char.is_ascii_alphanumeric() || char == '.' { char } else { '-' }).collect();
    // `libstdc++6` and `libstdc--6` would be one; plus signs are told by a word.
    let name = if name.contains("--") { name.replace("--", "-plus-plus-") } else { name };
    match version {
        "" => format!("SPDXRef-{kind}-{name}"),
        version => format!("SPDXRef-{kind}-{name}-{}", version.replace('+', "-")),
    }
}

fn crate_id(one: &Crate) -> String {
    id("crate", &one.name, if one.registry { &one.version } else { "" })
}

fn debian(package: &Package, references: &mut BTreeSet<Reference>) -> Value {
    let declared = package.copyright.as_deref().and_then(licence::expression).map(|(text, names)| {
        references.extend(names);
        text
    });
    let mut value = json!({
        "SPDXID": id("deb", &package.name, ""),
        "name": package.name,
        "versionInfo": package.version,
        "supplier": supplier(&package.maintainer),
        "downloadLocation": NOBODY,
        "filesAnalyzed": false,
        "licenseConcluded": NOBODY,
        "licenseDeclared": declared.as_deref().unwrap_or(NOBODY),
        "copyrightText": NOBODY,
        "sourceInfo": format!("built from {} {}", package.source.0, package.source.1),
        "externalRefs": [purl(&format!("pkg:deb/debian/{}@{}?arch={}", escape(&package.name), escape(&package.version), package.architecture))],
    });
    if let Some(homepage) = &package.homepage {
        value["homepage"] = json!(homepage);
    }
    if let Some(sum) = &package.sha256 {
        value["checksums"] = json!([{ "algorithm": "SHA256", "checksumValue": sum }]);
    }
    value
}

fn rust(one: &Crate) -> Value {
    let mut value = json!({
        "SPDXID": crate_id(one),
        "name": one.name,
        "versionInfo": one.version,
        "supplier": if one.registry { NOBODY } else { "Organization: Twinpost" },
        "downloadLocation": NOBODY,
        "filesAnalyzed": false,
        "licenseConcluded": NOBODY,
        // Old manifests write `MIT/Apache-2.0` for a choice.
        "licenseDeclared": one.licence.as_deref().map_or_else(|| NOBODY.to_owned(), |text| text.replace('/', " OR ")),
        "copyrightText": NOBODY,
    });
    if one.registry {
        value["externalRefs"] = json!([purl(&format!("pkg:cargo/{}@{}", one.name, escape(&one.version)))]);
    }
    if let Some(sum) = &one.sha256 {
        value["checksums"] = json!([{ "algorithm": "SHA256", "checksumValue": sum }]);
    }
    value
}

fn purl(locator: &str) -> Value {
    json!({ "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": locator })
}

/// Percent-encoding of package URLs: what is not a letter, digit or one of `.-_~` (and `:` that stands for itself there).
fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_~:".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// `Organization: name (mail)` or `Person: name (mail)` from a Maintainer field.
fn supplier(maintainer: &str) -> String {
    if maintainer.is_empty() {
        return NOBODY.to_owned();
    }
    let groups = ["team", "maintainers", "group", "project", "developers", "debian ", "packaging", "lists."];
    let small = maintainer.to_ascii_lowercase();
    let kind = if groups.iter().any(|word| small.contains(word)) { "Organization" } else { "Person" };
    format!("{kind}: {}", maintainer.replace('<', "(").replace('>', ")"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn inputs() -> Inputs {
        Inputs {
            repository: PathBuf::new(),
            binary: PathBuf::new(),
            init: PathBuf::new(),
            profile: "test".into(),
            epoch_s: 1_700_000_000,
            version: "1.2.3".into(),
            commit: "abc".into(),
            cache: PathBuf::new(),
            fresh: false,
            floor: 0,
            patience_s: None,
            broken: None,
            trusted: Vec::new(),
            signing_key: None,
        }
    }

    #[test]
    fn every_relation_names_an_element_once_defined() {
        let package = |name: &str| Package {
            name: name.into(),
            version: "2:1.0+b1".into(),
            architecture: "amd64".into(),
            source: ("s".into(), "1".into()),
            maintainer: "Debian GCC Maintainers <x@y>".into(),
            homepage: None,
            sha256: Some("aa".into()),
            copyright: Some(
                "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: odd\n".into(),
            ),
        };
        let one = |name: &str, version: &str, registry| Crate {
            name: name.into(),
            version: version.into(),
            licence: Some("MIT/Apache-2.0".into()),
            sha256: None,
            registry,
        };
        let (a, b) = (package("libstdc++6"), package("libc6"));
        let crates = [one("twinpost", "0.1.0", false), one("rand", "0.8.0", true), one("rand", "0.9.0", true)];
        let bill = spdx(&[&a, &b], &crates, &inputs());
        let ids: Vec<&str> =
            bill["packages"].as_array().unwrap().iter().map(|package| package["SPDXID"].as_str().unwrap()).collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{ids:?}");
        for relation in bill["relationships"].as_array().unwrap() {
            for end in ["spdxElementId", "relatedSpdxElement"] {
                let end = relation[end].as_str().unwrap();
                assert!(end == "SPDXRef-DOCUMENT" || ids.contains(&end), "{end}");
                assert!(end.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte)), "{end}");
            }
        }
        assert_eq!(bill["hasExtractedLicensingInfos"][0]["licenseId"], "LicenseRef-Debian-odd");
        assert_eq!(
            bill["packages"][1]["externalRefs"][0]["referenceLocator"],
            "pkg:deb/debian/libstdc%2B%2B6@2:1.0%2Bb1?arch=amd64"
        );
        assert_eq!(bill["packages"][1]["supplier"], "Organization: Debian GCC Maintainers (x@y)");
        assert_eq!(bill["packages"][3]["licenseDeclared"], "MIT OR Apache-2.0");
        assert_eq!(spdx(&[&a, &b], &crates, &inputs()), bill);
    }
}
