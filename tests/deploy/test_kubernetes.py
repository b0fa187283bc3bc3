"""The manifests: valid for Kubernetes, and of one mind with the server and with each other."""

import json
import re
import tomllib

import pytest
from deployed import DEPLOY, LARDER, Served, checked, small_copy

yaml = pytest.importorskip("yaml", reason="SKIPPED (needs PyYAML)")

FOLDER = DEPLOY / "kubernetes"
# The oldest with containers that start before the others and end after them, and later ones.
VERSIONS = ["1.29", "1.33", "1.37"]
TOKEN = "0123456789abcdef0123456789abcdef"
# Validated by the Prometheus operator's own schema, which is not at hand.
CUSTOM = {"PodMonitor"}


def documents(name):
    return list(yaml.safe_load_all((FOLDER / name).read_text("utf-8")))


def one(name, kind):
    [found] = [document for document in documents(name) if document["kind"] == kind]
    return found


EVERY = [
    pytest.param(document, id=f"{path.name}-{document['kind']}")
    for path in sorted(FOLDER.glob("*.yaml"))
    for document in documents(path.name)
]

# Each server with the engine that uses it: (file, kind) of the pod, the container, of both.
SERVERS = [("server.yaml", "DaemonSet"), ("sidecar.yaml", "StatefulSet")]
ENGINES = [("vllm.yaml", "Deployment"), ("sidecar.yaml", "StatefulSet")]


def pod_of(name, kind):
    return one(name, kind)["spec"]["template"]


def container(pod, name):
    spec = pod["spec"]
    [found] = [
        each for each in spec["containers"] + spec.get("initContainers", []) if each["name"] == name
    ]
    return found


def server_in(name, kind):
    pod = pod_of(name, kind)
    return pod, container(pod, "larder"), one(name, "ConfigMap")["data"]["larder.toml"]


def volume_at(pod, mounting, path):
    """(mount, volume) of a container; the volume is None for a claim of a template."""
    [mount] = [each for each in mounting["volumeMounts"] if each["mountPath"] == path]
    volumes = {each["name"]: each for each in pod["spec"]["volumes"]}
    return mount, volumes.get(mount["name"])


def port_of(mounting, name):
    [port] = [each["containerPort"] for each in mounting["ports"] if each["name"] == name]
    return port


def gib(text):
    return int(re.fullmatch(r"(\d+)Gi", text)[1])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("document", EVERY)
def test_kubernetes_takes_it(document, version):
    schemas = pytest.importorskip(
        "kubernetes_validate", reason="SKIPPED (needs the package kubernetes-validate)"
    )
    if document["kind"] in CUSTOM:
        assert document["apiVersion"] == "monitoring.coreos.com/v1"
        return
    schemas.validate(document, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("broken", [{"hostIPc": True}, {"volumes": [{"name": 1}]}], ids=str)
def test_kubernetes_refuses_a_pod_with_a_mistake(broken, version):
    schemas = pytest.importorskip(
        "kubernetes_validate", reason="SKIPPED (needs the package kubernetes-validate)"
    )
    document = one("server.yaml", "DaemonSet")
    document["spec"]["template"]["spec"] |= broken
    with pytest.raises(schemas.ValidationError):
        schemas.validate(document, version, strict=True)


@pytest.mark.parametrize(("name", "kind"), SERVERS)
def test_the_server_takes_the_configuration(name, kind, tmp_path):
    pod, larder, text = server_in(name, kind)
    path = tmp_path / "larder.toml"
    path.write_text(text, "utf-8")
    json_of = checked(path)
    configuration = tomllib.loads(text)
    assert larder["args"] == ["server", "--config", "/etc/larder/larder.toml"]
    mount, volume = volume_at(pod, larder, "/etc/larder/larder.toml")
    assert mount["subPath"] in one(name, "ConfigMap")["data"]
    assert volume["configMap"]["name"] == one(name, "ConfigMap")["metadata"]["name"]
    for adapter in configuration["l2_adapter"]:
        volume_at(pod, larder, "/var/lib/larder")
        assert adapter["path"].startswith("/var/lib/larder/")
    ports = {each["name"]: each["containerPort"] for each in larder["ports"]}
    said = {
        "engines": json_of["mp"]["port"],
        "http": json_of["http"]["http_port"],
        "metrics": configuration.get("metrics_port", json_of["http"]["http_port"]),
    }
    assert ports == {port: said[port] for port in ports}
    assert configuration["http_host"] == "0.0.0.0", "the kubelet's probes come from outside"
    grace = pod["spec"]["terminationGracePeriodSeconds"]
    assert grace >= configuration["drain_seconds"] + 30
    assert gib(larder["resources"]["limits"]["memory"]) >= configuration["l1_size_gb"] + 2


@pytest.mark.parametrize(("name", "kind"), SERVERS)
def test_a_server_with_it_answers_its_probes(name, kind, tmp_path):
    _, larder, text = server_in(name, kind)
    directories = ["/var/lib/larder"]
    if "admin_token_file" in text:
        directories.append("/etc/larder/admin")
        (tmp_path / "etc/larder/admin").mkdir(parents=True)
        (tmp_path / "etc/larder/admin/token").write_text(TOKEN + "\n", "utf-8")
    path = small_copy(text, tmp_path, directories)
    more = {"LARDER_METRICS_PORT": "0"} if "metrics_port" in text else {}
    with Served([LARDER, *larder["args"][:-1], str(path)], tmp_path, **more) as server:
        assert server.ping() is not None
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"]:
            if probe in larder:
                asked = larder[probe]["httpGet"]
                assert server.request(asked["path"])[0] == 200, probe
                assert asked["port"] in {each["name"] for each in larder["ports"]}
        if more:
            metrics = re.search(r"Metrics: http://(\S+)/metrics", server.text())[1]
            assert "larder_server_connections" in server.request("/metrics", metrics)[1]
            assert server.request("/status", metrics)[0] == 404
        if "admin_token_file" in text:
            assert server.request("/cache/clear", body=b"{}")[0] == 401
            assert server.request("/cache/clear", body=b"{}", token=TOKEN)[0] == 200
        assert server.terminate()[0] == 0, server.text()


def test_the_secret_is_readable_by_the_server():
    pod, larder, text = server_in("server.yaml", "DaemonSet")
    token = tomllib.loads(text)["admin_token_file"]
    _, volume = volume_at(pod, larder, token.rpartition("/")[0])
    page = (DEPLOY.parent / "docs/deploy.md").read_text("utf-8")
    made = rf"kubectl -n larder create secret generic {volume['secret']['secretName']} --from-literal=token="
    assert re.search(made, page), "the page says how it is made"
    assert volume["secret"]["defaultMode"] == 0o400
    assert pod["spec"]["securityContext"]["fsGroup"] == pod["spec"]["securityContext"]["runAsGroup"]


@pytest.mark.parametrize(("server", "engine"), list(zip(SERVERS, ENGINES, strict=True)))
def test_an_engine_reaches_the_server(server, engine):
    server_pod, larder, text = server_in(*server)
    engine_pod = pod_of(*engine)
    vllm = container(engine_pod, "vllm")
    # As one user, with one /dev/shm.
    for key in ["runAsUser", "runAsGroup"]:
        users = {pod["spec"]["securityContext"][key] for pod in (server_pod, engine_pod)}
        assert len(users) == 1
    [ours, theirs] = [
        volume_at(pod, each, "/dev/shm")[1]
        for pod, each in ((server_pod, larder), (engine_pod, vllm))
    ]
    assert ours == theirs
    if "hostPath" in ours:
        assert ours["hostPath"]["path"] == "/dev/shm"
    else:
        assert ours["emptyDir"]["medium"] == "Memory"
        assert gib(ours["emptyDir"]["sizeLimit"]) > tomllib.loads(text)["l1_size_gb"]
    # At the port and the name that it is told.
    transfer = json.loads(vllm["args"][vllm["args"].index("--kv-transfer-config") + 1])
    extra = transfer["kv_connector_extra_config"]
    assert transfer["kv_connector"] == "LMCacheMPConnector"
    assert extra["lmcache.mp.port"] == tomllib.loads(text)["port"]
    name = extra["lmcache.mp.host"].removeprefix("tcp://")
    if server_pod == engine_pod:
        assert name == tomllib.loads(text)["host"] == "localhost"
    else:
        service = one(server[0], "Service")
        assert name == service["metadata"]["name"]
        assert service["metadata"]["namespace"] == one(*engine)["metadata"]["namespace"]


def test_the_service_leads_to_the_server_of_the_node():
    pod, larder, _ = server_in("server.yaml", "DaemonSet")
    service = one("server.yaml", "Service")["spec"]
    labels = pod["metadata"]["labels"]
    assert service["internalTrafficPolicy"] == "Local"
    assert service["selector"].items() <= labels.items()
    for port in service["ports"]:
        assert port["port"] == port_of(larder, port["targetPort"])
    engine = pod_of("vllm.yaml", "Deployment")
    [affinity] = engine["spec"]["affinity"]["podAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]
    assert affinity["labelSelector"]["matchLabels"].items() <= labels.items()
    assert affinity["topologyKey"] == "kubernetes.io/hostname"


def test_only_engines_reach_the_port_that_has_no_authentication():
    pod, larder, _ = server_in("server.yaml", "DaemonSet")
    policy = one("server.yaml", "NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    open_to = {rule["ports"][0]["port"]: rule["from"] for rule in policy["ingress"]}
    assert set(open_to) == {"engines", "metrics"}
    for port in open_to:
        port_of(larder, port)
    [of_engines] = open_to["engines"]
    wanted = of_engines["podSelector"]["matchLabels"]
    assert wanted.items() <= pod_of("vllm.yaml", "Deployment")["metadata"]["labels"].items()


def test_prometheus_reads_the_servers_as_the_job_of_the_alerts():
    pod, larder, _ = server_in("server.yaml", "DaemonSet")
    monitor = one("podmonitor.yaml", "PodMonitor")["spec"]
    labels = pod["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    [endpoint] = monitor["podMetricsEndpoints"]
    port_of(larder, endpoint["port"])
    alerts = (DEPLOY.parent / "examples/observability/alerts.yml").read_text("utf-8")
    assert f'job="{labels[monitor["jobLabel"]]}"' in alerts


@pytest.mark.parametrize(("name", "kind"), [*SERVERS, ENGINES[0]])
def test_no_pod_may_more_than_it_needs(name, kind):
    """The Pod Security level "restricted", but for the volumes of server.yaml and vllm.yaml."""
    spec = pod_of(name, kind)["spec"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for each in spec["containers"] + spec.get("initContainers", []):
        assert each["securityContext"]["allowPrivilegeEscalation"] is False
        assert each["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert not each["securityContext"].get("privileged")
    if name == "sidecar.yaml":
        kinds = {key for volume in spec["volumes"] for key in volume} - {"name"}
        assert kinds <= {"configMap", "emptyDir", "secret", "persistentVolumeClaim"}
        level = one(name, "Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        assert level == "restricted"


def test_the_image_has_the_manifests_user():
    file = (DEPLOY / "container/Containerfile").read_text("utf-8")
    [user] = re.findall(r"^USER (\d+:\d+)$", file, re.MULTILINE)
    for name, kind in SERVERS:
        context = pod_of(name, kind)["spec"]["securityContext"]
        assert f"{context['runAsUser']}:{context['runAsGroup']}" == user
