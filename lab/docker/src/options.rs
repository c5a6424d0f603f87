//! Options of containers and services, in the types of Docker's API.

use std::time::Duration;

use bollard::models::{
    DeviceMapping, HealthConfig, Mount, MountTmpfsOptions, MountType, ResourcesUlimits, RestartPolicy,
    RestartPolicyNameEnum, ServiceSpecRollbackConfig, ServiceSpecRollbackConfigFailureActionEnum,
    ServiceSpecRollbackConfigOrderEnum, ServiceSpecUpdateConfig, ServiceSpecUpdateConfigFailureActionEnum,
    ServiceSpecUpdateConfigOrderEnum, TaskSpecRestartPolicy, TaskSpecRestartPolicyConditionEnum,
};
use indexmap::IndexMap;
use labctl_model::{
    Device, FailureAction, Healthcheck, HostAddress, Restart, RestartCondition, TaskRestart, Ulimit,
    UpdatePace, Volume, VolumeSource,
};

/// Whole seconds, of which a part counts as one.
pub(crate) fn seconds(time: Duration) -> i32 {
    i32::try_from(time.as_millis().div_ceil(1000)).unwrap_or(i32::MAX)
}

pub(crate) fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

pub(crate) fn healthcheck(check: &Healthcheck) -> HealthConfig {
    HealthConfig {
        test: (!check.test.is_empty()).then(|| check.test.clone()),
        interval: check.interval.map(nanoseconds),
        timeout: check.timeout.map(nanoseconds),
        retries: check.retries.map(i64::from),
        start_period: check.start_period.map(nanoseconds),
        start_interval: check.start_interval.map(nanoseconds),
    }
}

pub(crate) fn host_address(address: HostAddress) -> String {
    match address {
        HostAddress::Ip(ip) => ip.to_string(),
        HostAddress::HostGateway => "host-gateway".to_owned(),
    }
}

pub(crate) fn mount(volume: &Volume) -> Mount {
    let (typ, source, tmpfs_options) = match &volume.source {
        VolumeSource::Named(name) => (MountType::VOLUME, name.clone(), None),
        VolumeSource::Tmpfs { size, mode } => {
            let options = MountTmpfsOptions {
                size_bytes: size.map(|s| i64::try_from(s).unwrap_or(i64::MAX)),
                mode: mode.map(i64::from),
                ..Default::default()
            };
            (MountType::TMPFS, None, Some(options))
        }
    };
    Mount {
        target: Some(volume.target.clone()),
        source,
        typ: Some(typ),
        read_only: volume.read_only.then_some(true),
        tmpfs_options,
        ..Default::default()
    }
}

pub(crate) fn ulimits(limits: &IndexMap<String, Ulimit>) -> Vec<ResourcesUlimits> {
    let limit = |(name, l): (&String, &Ulimit)| ResourcesUlimits {
        name: Some(name.clone()),
        soft: Some(l.soft),
        hard: Some(l.hard),
    };
    limits.iter().map(limit).collect()
}

pub(crate) fn restart(restart: Restart) -> RestartPolicy {
    let (name, times) = match restart {
        Restart::No => (RestartPolicyNameEnum::NO, None),
        Restart::Always => (RestartPolicyNameEnum::ALWAYS, None),
        Restart::UnlessStopped => (RestartPolicyNameEnum::UNLESS_STOPPED, None),
        Restart::OnFailure(times) => (RestartPolicyNameEnum::ON_FAILURE, times),
    };
    RestartPolicy { name: Some(name), maximum_retry_count: times.map(i64::from) }
}

pub(crate) fn device(device: &Device) -> DeviceMapping {
    DeviceMapping {
        path_on_host: Some(device.host.clone()),
        path_in_container: Some(device.container.clone()),
        cgroup_permissions: Some(device.permissions.clone()),
    }
}

pub(crate) fn task_restart(restart: &TaskRestart) -> TaskSpecRestartPolicy {
    use TaskSpecRestartPolicyConditionEnum as Condition;
    TaskSpecRestartPolicy {
        condition: restart.condition.map(|c| match c {
            RestartCondition::None => Condition::NONE,
            RestartCondition::OnFailure => Condition::ON_FAILURE,
            RestartCondition::Any => Condition::ANY,
        }),
        delay: restart.delay.map(nanoseconds),
        max_attempts: restart.max_attempts.map(i64::from),
        window: restart.window.map(nanoseconds),
    }
}

pub(crate) fn update(pace: &UpdatePace) -> ServiceSpecUpdateConfig {
    use ServiceSpecUpdateConfigFailureActionEnum as Action;
    use ServiceSpecUpdateConfigOrderEnum as Order;
    ServiceSpecUpdateConfig {
        // Over the API 0 is all at once, and nothing is that too: as the command line, labctl says one.
        parallelism: Some(pace.parallelism.map_or(1, i64::from)),
        delay: pace.delay.map(nanoseconds),
        failure_action: pace.failure_action.map(|a| match a {
            FailureAction::Continue => Action::CONTINUE,
            FailureAction::Pause => Action::PAUSE,
            FailureAction::Rollback => Action::ROLLBACK,
        }),
        monitor: pace.monitor.map(nanoseconds),
        max_failure_ratio: pace.max_failure_ratio,
        order: pace.start_first.map(|first| if first { Order::START_FIRST } else { Order::STOP_FIRST }),
    }
}

pub(crate) fn rollback(pace: &UpdatePace) -> ServiceSpecRollbackConfig {
    use ServiceSpecRollbackConfigFailureActionEnum as Action;
    use ServiceSpecRollbackConfigOrderEnum as Order;
    ServiceSpecRollbackConfig {
        parallelism: Some(pace.parallelism.map_or(1, i64::from)),
        delay: pace.delay.map(nanoseconds),
        failure_action: pace.failure_action.map(|a| match a {
            FailureAction::Continue => Action::CONTINUE,
            FailureAction::Pause | FailureAction::Rollback => Action::PAUSE,
        }),
        monitor: pace.monitor.map(nanoseconds),
        max_failure_ratio: pace.max_failure_ratio,
        order: pace.start_first.map(|first| if first { Order::START_FIRST } else { Order::STOP_FIRST }),
    }
}
