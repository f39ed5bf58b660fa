use std::fmt;
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, StreamId};

/// Most partitions that an event stream can have.
const MAX_PARTITIONS: u16 = 256;

/// The number of partitions of an event stream: 1 to 256, fixed for its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PartitionCount(NonZeroU16);

impl PartitionCount {
    /// One partition: one total order.
    pub const ONE: Self = Self(NonZeroU16::MIN);

    /// Checks and takes `count`.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless 1 to 256.
    pub fn new(count: u32) -> Result<Self> {
        u16::try_from(count)
            .ok()
            .and_then(NonZeroU16::new)
            .filter(|count| count.get() <= MAX_PARTITIONS)
            .map(Self)
            .ok_or_else(|| {
                Error::invalid(
                    "partitions",
                    format!("{count} is not a number of partitions; give 1 to {MAX_PARTITIONS}"),
                )
            })
    }

    /// The count as a number.
    pub fn get(self) -> usize {
        usize::from(self.0.get())
    }

    /// All partitions in order.
    pub fn partitions(self) -> impl ExactSizeIterator<Item = Partition> + Clone {
        (0..self.0.get()).map(Partition)
    }

    /// The partition that holds `stream_id`: the same that Kafka's default partitioner gives for a message
    /// whose key is the stream id, so that Kafka clients agree with us.
    pub fn partition_of(self, stream_id: &StreamId) -> Partition {
        let positive = murmur2(stream_id.as_str().as_bytes()) & 0x7fff_ffff;
        Partition((positive % u32::from(self.0.get())) as u16)
    }

    /// Checks that `partition` is one of these.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is not.
    pub fn check(self, partition: u32) -> Result<Partition> {
        u16::try_from(partition).ok().filter(|partition| *partition < self.0.get()).map(Partition).ok_or_else(
            || {
                Error::invalid(
                    "partition",
                    format!(
                        "there is no partition {partition}; this event stream has 0 to {}",
                        self.0.get() - 1
                    ),
                )
            },
        )
    }
}

/// A totally ordered part of an event stream, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Partition(u16);

impl Partition {
    /// The first partition, the only one of an event stream that has one.
    pub const ZERO: Self = Self(0);

    /// Partition number `index` of some log; [`PartitionCount::check`] checks one that came from outside.
    pub const fn new(index: u16) -> Self {
        Self(index)
    }

    /// The partition's number, from 0.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The partition's number as an index of a list by partition.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name(u64);

        impl $name {
            /// Before the first.
            pub const ZERO: Self = Self(0);
            /// The greatest that every database holds (a signed 64-bit integer).
            pub const MAX: Self = Self(i64::MAX as u64);

            /// Takes a number.
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// The number.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The number `by` further on.
            #[must_use]
            pub const fn plus(self, by: u64) -> Self {
                Self(self.0 + by)
            }

            /// The one after this.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter!(
    /// An event's number within its stream id, from 1 without gaps. 0 means "no such stream".
    Version
);
counter!(
    /// An event's number within its partition, from 1 without gaps. 0 means "before the first".
    Position
);

/// The 32-bit MurmurHash2 with the seed that Kafka's default partitioner uses.
pub fn murmur2(bytes: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;

    let mut hash = SEED ^ bytes.len() as u32;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of Apache Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn murmur2_agrees_with_kafka() {
        for (text, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()) as i32, hash, "{text}");
        }
    }

    #[test]
    fn a_negative_hash_still_gives_a_partition() {
        let count = PartitionCount::new(3).unwrap();
        // Kafka: toPositive(-973932308) % 3 = 1173551340 % 3.
        assert_eq!(count.partition_of(&StreamId::new("21").unwrap()), Partition(0));
        assert_eq!(
            count.partition_of(&StreamId::new("foobar").unwrap()),
            Partition((1_357_151_166_u32 % 3) as u16)
        );
    }

    #[test]
    fn counts_and_partitions_are_bounded() {
        assert!(PartitionCount::new(0).is_err());
        assert!(PartitionCount::new(257).is_err());
        let three = PartitionCount::new(3).unwrap();
        assert_eq!(three.partitions().map(Partition::get).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(three.check(2).is_ok());
        assert_eq!(
            three.check(3).unwrap_err().to_string(),
            "partition: there is no partition 3; this event stream has 0 to 2"
        );
    }
}
