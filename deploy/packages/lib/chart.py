"""The Helm chart as `helm install` takes it, with the version of this build."""
import re

import archive
import tree

CHART = tree.ROOT / "deploy/helm/lameduck"


def build(work):
    entries = []
    for path in sorted(CHART.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            if path.name == "Chart.yaml":
                content = re.sub(rb'(?m)^(version|appVersion): .*$', rb'\1: "%s"' % work.version.encode(), content)
            entries.append((f"lameduck/{path.relative_to(CHART)}", content, 0o644, 0))
    to = work.out / f"lameduck-chart-{work.version}.tgz"
    to.write_bytes(archive.squeeze(archive.pack(entries, work.epoch), 9))
    return to
