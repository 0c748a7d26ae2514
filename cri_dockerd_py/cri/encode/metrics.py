"""Metric descriptors and samples (MET)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from cri_dockerd_py.cri.encode.text import clean
from cri_dockerd_py.model.stats import Metric, MetricDescriptor, PodSandboxMetrics


def descriptors(given: Iterable[MetricDescriptor]) -> pb.ListMetricDescriptorsResponse:
    """Return the descriptors."""
    return pb.ListMetricDescriptorsResponse(
        descriptors=[
            pb.MetricDescriptor(name=metric.name, help=metric.help, label_keys=metric.label_keys) for metric in given
        ]
    )


def sandbox_metrics(given: PodSandboxMetrics) -> pb.PodSandboxMetrics:
    """Return the samples of a pod and of its containers."""
    return pb.PodSandboxMetrics(
        pod_sandbox_id=given.sandbox_id,
        metrics=[_metric(metric) for metric in given.metrics],
        container_metrics=[
            pb.ContainerMetrics(
                container_id=container.container_id, metrics=[_metric(metric) for metric in container.metrics]
            )
            for container in given.containers
        ],
    )


def _metric(metric: Metric) -> pb.Metric:
    return pb.Metric(
        name=metric.name,
        timestamp=metric.timestamp_ns,
        metric_type=cast("pb.MetricType", metric.type),
        label_values=[clean(value) for value in metric.label_values],
        value=pb.UInt64Value(value=metric.value),
    )
