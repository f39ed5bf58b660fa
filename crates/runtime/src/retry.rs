//! Repeating what may pass.

use headwater_core::{Error, Result, RetryPolicy};

/// Does `work`, again while its error [may pass](Error::is_retryable) and `policy` allows, with the policy's waits in between.
/// Drop it to end it.
///
/// # Errors
/// The last try's.
pub async fn retry<T, F>(policy: RetryPolicy, mut work: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let mut attempt = 1;
    loop {
        let error: Error = match work().await {
            Ok(done) => return Ok(done),
            Err(error) if error.is_retryable() => error,
            Err(error) => return Err(error),
        };
        let Some(delay) = policy.delay(attempt) else { return Err(error) };
        tracing::debug!(policy = policy.name, attempt, ?delay, %error, "trying again");
        tokio::time::sleep(delay).await;
        attempt += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        name: "test",
        attempts: 3,
        initial: Duration::from_millis(1),
        max: Duration::from_millis(1),
    };

    async fn tries(outcomes: Vec<Result<u32>>) -> (usize, Result<u32>) {
        let mut outcomes = outcomes.into_iter();
        let all = outcomes.len();
        let result = retry(POLICY, || std::future::ready(outcomes.next().unwrap())).await;
        (all - outcomes.len(), result)
    }

    #[tokio::test]
    async fn repeats_what_may_pass_and_nothing_else() {
        let (count, result) = tries(vec![Err(Error::unavailable("a")), Ok(7)]).await;
        assert_eq!((count, result.unwrap()), (2, 7));
        let (count, result) = tries(vec![Err(Error::not_found("b")), Ok(7)]).await;
        assert_eq!((count, result.unwrap_err().to_string()), (1, "b".to_owned()));
        let (count, result) = tries(vec![
            Err(Error::unavailable("a")),
            Err(Error::unavailable("b")),
            Err(Error::unavailable("c")),
            Ok(7),
        ])
        .await;
        assert_eq!((count, result.unwrap_err().to_string()), (3, "c".to_owned()));
    }
}
