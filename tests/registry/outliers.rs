//! Outliers whose pool changes under them.

use std::time::Duration;

use lameduck::core::outlier::AttemptError;
use lameduck::registry::endpoint::outcomes::{AttemptOutcome, AttemptWatch};
use lameduck::rt::clock;

use crate::rig::{PATIENCE, Rig};

/// Two backends with these weights; a weight of `None`: it is not there.
fn text(weights: [Option<u32>; 2]) -> String {
    let mut text = String::from("[[pool]]\nname = \"app\"\n");
    for (place, weight) in weights.into_iter().enumerate() {
        if let Some(weight) = weight {
            text += &format!(
                "[[pool.backend]]\nname = \"b{place}\"\naddress = \"127.0.0.1:{}\"\nweight = {weight}\n",
                4100 + place
            );
        }
    }
    text + "[pool.outlier]\nconsecutive_errors = 1\nejection = \"1m\"\nwindow = \"60s\"\n"
}

/// Whatever has taken the others away: the last one that takes requests is not left out.
#[lameduck_rig::test]
async fn ejected_backend_is_taken_back_when_the_others_have_no_weight_or_have_left() {
    for others in [[Some(1), Some(0)], [Some(1), None]] {
        let rig = Rig::new(&text([Some(1), Some(1)]));
        rig.ready("b0").await;
        rig.ready("b1").await;
        let endpoint = rig.endpoint("b0");
        let permit = endpoint.permit(0).unwrap();
        let watch = AttemptWatch {
            endpoint: &endpoint,
            epoch: permit.epoch(),
            began: clock::now(),
            is_prompt: true,
        };
        watch.note(AttemptOutcome::Failed(AttemptError::Reset), clock::now());
        drop(permit);
        let ejected = async {
            while rig.view("b0").await.unwrap().ejected.is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let ejected = tokio::time::timeout(PATIENCE, ejected).await;
        ejected.expect("it is ejected");
        rig.apply(&text(others)).await;
        rig.settled().await;
        let view = rig.view("b0").await.unwrap();
        assert!(view.ejected.is_none(), "{others:?}");
        assert_eq!(rig.snapshot().ready.len(), 1, "{others:?}");
    }
}
