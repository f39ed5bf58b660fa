//! Who folds which partition, when several processes do. A server that is set back to an older state forgets who holds what, and the next
//! looks say it again.

use async_trait::async_trait;
use headwater_core::{Error, Result};
use headwater_view::{Holdings, Look, Member, SinkLeases, Standing};
use uuid::Uuid;

use crate::call::{Call, Reply};
use crate::view::RedisView;

#[async_trait]
impl SinkLeases for RedisView {
    async fn look(&self, look: &Look) -> Result<Holdings> {
        let member = &look.member;
        let mut call = Call::default()
            .key(self.0.keys.leases())
            .arg(member.id.to_string())
            .arg(&member.name)
            .arg(member.standing.as_str())
            .arg(&member.report)
            .number(u64::try_from(look.term.as_millis()).unwrap_or(u64::MAX));
        look.hold.iter().for_each(|partition| call.args.push(partition.to_string()));
        let mut reply = self.0.leases.write("looking at leases", &self.0.scripts.look, &call, false).await?;
        let (mut said, mut leases) = (reply.list()?, reply.list()?);
        let mut holdings = Holdings { members: Vec::new(), holders: vec![None; look.partitions.get()] };
        while !said.is_empty() {
            holdings.members.push(read(&mut said)?);
        }
        holdings.members.sort_by_key(|member| member.id);
        while !leases.is_empty() {
            let (partition, holder) = (leases.number::<usize>()?, id(&leases.text()?)?);
            // Partitions that are not asked about have no place.
            if let Some(known) = holdings.holders.get_mut(partition) {
                *known = Some(holder);
            }
        }
        Ok(holdings)
    }

    async fn leave(&self, member: Uuid) -> Result<()> {
        let call = Call::default().key(self.0.keys.leases()).arg(member.to_string());
        self.0.leases.write("giving up leases", &self.0.scripts.leave, &call, false).await.map(drop)
    }
}

fn read(said: &mut Reply) -> Result<Member> {
    let id = id(&said.text()?)?;
    let name = said.text()?;
    // A newer Headwater's: it is there, and nothing is known of its share.
    let standing = Standing::parse(&said.text()?).unwrap_or(Standing::Watches);
    Ok(Member { id, name, standing, report: said.text()? })
}

fn id(text: &str) -> Result<Uuid> {
    text.parse().map_err(|error| {
        Error::corrupt(format!(
            "reading who folds the read model: {text:?} is no member ({error}); somebody else has written to Headwater's keys: delete \
             the key hw:leases of the projection's prefix"
        ))
    })
}
