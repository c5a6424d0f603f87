//! Docker networks of a lab on one host.

use std::collections::HashMap;

use bollard::{
    models::{
        EndpointIpamConfig, EndpointSettings, Ipam, IpamConfig, NetworkConnectRequest, NetworkCreateRequest,
        NetworkDisconnectRequest,
    },
    query_parameters::{ListNetworksOptions, PruneNetworksOptions},
};
use ipnet::IpNet;
use labctl_model::{Attachment, Driver, Lab, Network};

use crate::{Call, Error, HostDocker, is_not_found, retry_transient};

/// Networks that every dockerd has by default.
const PREDEFINED: [&str; 3] = ["bridge", "host", "none"];

/// Option of an overlay that holds its VNIs (libnetwork/drivers/overlay: `netlabel.OverlayVxlanIDList`).
const VNI_LIST: &str = "com.docker.network.driver.overlay.vxlanid_list";

impl HostDocker {
    /// Creates a network of the topology on this host.
    pub async fn create_network(&self, lab: &Lab, network: &Network) -> Result<(), Error> {
        let mut request = create_request(lab, &self.host, network);
        request.labels.get_or_insert_default().extend(self.labels.clone());
        self.api
            .create_network(request)
            .whole()
            .await
            .map(drop)
            .map_err(self.failed(format!("create network {}", network.docker_name)))
    }

    /// Removes a network.
    pub async fn remove_network(&self, name: &str) -> Result<(), Error> {
        self.api.remove_network(name).whole().await.map_err(self.failed(format!("remove network {name}")))
    }

    /// Removes a network, if this host has it.
    pub async fn remove_network_if_there(&self, name: &str) -> Result<(), Error> {
        match self.api.remove_network(name).whole().await {
            Err(e) if !is_not_found(&e) => Err(self.failed(format!("remove network {name}"))(e)),
            _ => Ok(()),
        }
    }

    /// Removes every network that no container uses, as `docker network prune` does. Returns their names.
    pub async fn prune_networks(&self) -> Result<Vec<String>, Error> {
        let pruned = self
            .api
            .prune_networks(None::<PruneNetworksOptions>)
            .whole()
            .await
            .map_err(self.failed("prune networks"))?;
        Ok(pruned.networks_deleted.unwrap_or_default())
    }

    /// Attaches a container.
    pub async fn connect_network(
        &self,
        network: &str,
        container: &str,
        to: &Attachment,
    ) -> Result<(), Error> {
        retry_transient(|| self.connect_network_once(network, container, to)).await
    }

    pub(super) async fn connect_network_once(
        &self,
        network: &str,
        container: &str,
        to: &Attachment,
    ) -> Result<(), Error> {
        let request =
            NetworkConnectRequest { container: container.to_owned(), endpoint_config: Some(endpoint(to)) };
        self.api
            .connect_network(network, request)
            .whole()
            .await
            .map_err(self.failed(format!("connect {container} to network {network}")))
    }

    /// Detaches a container.
    pub async fn disconnect_network(&self, network: &str, container: &str) -> Result<(), Error> {
        let request = NetworkDisconnectRequest { container: container.to_owned(), force: Some(false) };
        self.api
            .disconnect_network(network, request)
            .whole()
            .await
            .map_err(self.failed(format!("disconnect {container} from network {network}")))
    }

    /// Names of the networks that dockerd does not have by default, sorted.
    pub async fn network_names(&self) -> Result<Vec<String>, Error> {
        let networks = self
            .api
            .list_networks(None::<ListNetworksOptions>)
            .whole()
            .await
            .map_err(self.failed("list networks"))?;
        let mut names: Vec<String> = networks
            .into_iter()
            .filter_map(|n| n.name)
            .filter(|n| !PREDEFINED.contains(&n.as_str()))
            .collect();
        names.sort();
        Ok(names)
    }

    /// The VNI of an overlay; `None` if this host does not know it. A manager knows it once it is made, a worker only
    /// while the network is in use there.
    pub async fn vni(&self, name: &str) -> Result<Option<u32>, Error> {
        match self.api.inspect_network(name, None).whole().await {
            // libnetwork's overlay driver lists one per subnet: IPv6 has the next, and both families of a pair go by the
            // first.
            Ok(network) => Ok(network.options.and_then(|o| o.get(VNI_LIST)?.split(',').next()?.parse().ok())),
            Err(e) if is_not_found(&e) => Ok(None),
            Err(e) => Err(self.failed(format!("inspect network {name}"))(e)),
        }
    }

    /// Subnets of a network; `None` if this host does not have it.
    pub async fn subnets(&self, name: &str) -> Result<Option<Vec<IpNet>>, Error> {
        match self.api.inspect_network(name, None).whole().await {
            Ok(network) => {
                let pools = network.ipam.and_then(|i| i.config).unwrap_or_default();
                Ok(Some(pools.into_iter().filter_map(|p| p.subnet?.parse().ok()).collect()))
            }
            Err(e) if is_not_found(&e) => Ok(None),
            Err(e) => Err(self.failed(format!("inspect network {name}"))(e)),
        }
    }

    /// Whether this host has an address on the routing mesh's network, which has this name.
    pub async fn is_on_mesh(&self, name: &str) -> Result<bool, Error> {
        match self.api.inspect_network(name, None).whole().await {
            // The node itself is listed among its containers (moby daemon/network.go, setupIngress).
            Ok(network) => Ok(network.containers.unwrap_or_default().contains_key(&format!("{name}-sbox"))),
            Err(e) if is_not_found(&e) => Ok(false),
            Err(e) => Err(self.failed(format!("inspect network {name}"))(e)),
        }
    }

    /// Addresses of the nodes known to be on an overlay, this one included; none if it does not have the network.
    pub async fn network_peers(&self, name: &str) -> Result<Vec<String>, Error> {
        match self.api.inspect_network(name, None).whole().await {
            Ok(network) => Ok(network.peers.unwrap_or_default().into_iter().filter_map(|p| p.ip).collect()),
            Err(e) if is_not_found(&e) => Ok(Vec::new()),
            Err(e) => Err(self.failed(format!("inspect network {name}"))(e)),
        }
    }
}

/// Converts an attachment to Docker's form.
pub(super) fn endpoint(to: &Attachment) -> EndpointSettings {
    EndpointSettings {
        ipam_config: (!to.addresses().is_empty()).then(|| EndpointIpamConfig {
            ipv4_address: to.ipv4_address.map(|a| a.to_string()),
            ipv6_address: to.ipv6_address.map(|a| a.to_string()),
            ..Default::default()
        }),
        aliases: (!to.aliases.is_empty()).then(|| to.aliases.clone()),
        mac_address: to.mac_address.clone(),
        ..Default::default()
    }
}

fn create_request(lab: &Lab, host: &str, network: &Network) -> NetworkCreateRequest {
    let driver = match network.driver {
        Driver::Bridge => "bridge",
        Driver::Macvlan { .. } => "macvlan",
        Driver::Ipvlan { .. } => "ipvlan",
        Driver::Overlay => "overlay",
    };
    let mut options: HashMap<String, String> =
        network.options.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    if let Some(parent) = network.parent_interface(lab, host) {
        options.insert("parent".into(), parent);
    }
    let pools: Vec<IpamConfig> = network
        .ipam
        .iter()
        .map(|p| IpamConfig {
            subnet: Some(p.subnet.to_string()),
            gateway: p.gateway.map(|g| g.to_string()),
            ip_range: p.ip_range.map(|r| r.to_string()),
            auxiliary_addresses: (!p.aux_addresses.is_empty())
                .then(|| p.aux_addresses.iter().map(|(k, v)| (k.clone(), v.to_string())).collect()),
        })
        .collect();
    NetworkCreateRequest {
        name: network.docker_name.clone(),
        driver: Some(driver.to_owned()),
        internal: Some(network.internal),
        attachable: Some(network.attachable),
        ingress: Some(network.ingress),
        enable_ipv4: network.enable_ipv4,
        enable_ipv6: network.enable_ipv6,
        ipam: (!pools.is_empty()).then(|| Ipam { config: Some(pools), ..Default::default() }),
        options: Some(options),
        labels: Some(network.labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect()),
        ..Default::default()
    }
}
