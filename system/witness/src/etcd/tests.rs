//! Answers of the gateway that no etcd gives.

use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn any_answer(status in prop_oneof![Just(200u16), 100..600u16], body in proptest::collection::vec(any::<u8>(), 0..200)) {
        gateway::fuzz(status, &body);
    }
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    let good = EtcdSettings::new(vec!["http://127.0.0.1:2379".to_owned()], 1, 0);
    for bad in [
        EtcdSettings { endpoints: vec![], ..good.clone() },
        EtcdSettings { endpoints: vec!["127.0.0.1:2379".to_owned()], ..good.clone() },
        EtcdSettings { endpoints: vec!["https://127.0.0.1:2379".to_owned()], ..good.clone() },
        EtcdSettings { node: 2, ..good.clone() },
        EtcdSettings { lease_ms: 0, ..good.clone() },
    ] {
        assert!(matches!(Etcd::new(bad), Err(Error::Setting(_))));
    }
    assert!(Etcd::new(good).is_ok());
}
