//! A VTEP that lives as long as a stream: what the kernel decapsulates is seen on its interface.

use std::net::Ipv6Addr;

use labctl_model::Family;
use labctl_protocol::{
    lines::{self, LineError},
    messages::{Reply, ScratchVtep},
};
use rtnetlink::LinkVxlan;
use serde_json::Value;

use super::closed;
use crate::{
    netlink::{Netlink, NetlinkError},
    network,
    server::{Server, ServerStream, refuse},
};

/// Removes the interface, even if the session is cut short.
struct Made {
    netlink: Netlink,
    name: String,
}

impl Drop for Made {
    fn drop(&mut self) {
        let (netlink, name) = (self.netlink.clone(), std::mem::take(&mut self.name));
        tokio::spawn(async move {
            if let Err(error) = network::remove_interface(&netlink, &name).await {
                tracing::warn!("{error}");
            }
        });
    }
}

/// Makes the interface, answers, and removes it when the stream ends.
pub async fn serve(server: &Server, spec: ScratchVtep, mut stream: ServerStream) -> Result<(), LineError> {
    let _made = match make(server, &spec).await {
        Ok(made) => made,
        Err(error) => {
            refuse(stream, error.to_string()).await;
            return Ok(());
        }
    };
    lines::write(&mut stream, &Reply::Ok(Value::Null)).await?;
    closed(&mut stream).await;
    Ok(())
}

async fn make(server: &Server, spec: &ScratchVtep) -> anyhow::Result<Made> {
    if let Some(part) = &server.foreign {
        part.note_interface(&server.namespace, &spec.name).await?;
    }
    let netlink = Netlink::open(&server.namespace).await?;
    // A killed agent may have left one.
    network::remove_interface(&netlink, &spec.name).await?;
    let mut link =
        LinkVxlan::new(&spec.name, spec.vni).port(spec.port).learning(false).address(spec.mac.to_vec());
    if spec.family == Family::V6 {
        // Any local address, but of this family: without one, the kernel takes IPv4.
        link = link.local6(Ipv6Addr::UNSPECIFIED);
    }
    let what = format!("make a VTEP on port {}", spec.port);
    netlink.0.link().add(link.build()).execute().await.map_err(NetlinkError::of(what))?;
    let made = Made { netlink: netlink.clone(), name: spec.name.clone() };
    let link = netlink.link(&spec.name).await?.ok_or_else(|| NetlinkError::NoInterface(spec.name.clone()))?;
    network::set_up(&netlink, &link).await?;
    Ok(made)
}
