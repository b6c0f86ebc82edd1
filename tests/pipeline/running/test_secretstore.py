"""Secrets: where they lie, what a task gets, and where they never appear."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gitml.errors import UserError
from gitml.pipeline.datum import Datum
from gitml.pipeline.key import command_digest, task_key
from gitml.pipeline.params import read_params
from gitml.pipeline.secretstore import Granted, Mask, MissingSecretError, SecretStore
from gitml.pipeline.spec.model import Secret, Stage
from gitml.pipeline.task import TaskOutcome
from gitml.store.tree import Snapshot


@pytest.fixture
def store(tmp_path: Path) -> SecretStore:
    store = SecretStore(tmp_path / "ml" / "secrets")
    store.set("db", "token", b"hunter2-hunter2")
    store.set("db", "user", b"ada-lovelace\n")
    return store


USES = (
    Secret(name="db", env_var="TOKEN", key="token"),
    Secret(name="db", mount_path="/etc/gitml-test-secret"),
)


def test_values_are_for_the_user_alone(store: SecretStore, tmp_path: Path) -> None:
    place = tmp_path / "ml" / "secrets" / "db"
    assert (place.stat().st_mode & 0o777, (place / "token").stat().st_mode & 0o777) == (0o700, 0o600)
    assert store.names() == {"db": ["token", "user"]}
    store.set("db", "token", b"new")
    assert (place / "token").read_bytes() == b"new"
    store.remove("db", "token")
    store.remove("db", "user")
    assert store.names() == {}
    with pytest.raises(MissingSecretError):
        store.remove("db", None)
    for name in ("../x", "", ".x", "a/b"):
        with pytest.raises(UserError, match="cannot name"):
            store.set("db", name, b"1")


def test_a_task_gets_its_secrets_and_the_log_does_not(
    store: SecretStore, run: Callable[..., TaskOutcome], make_stage: Callable[..., Stage], tmp_path: Path
) -> None:
    granted = store.grant(make_stage("s", secrets=USES))
    assert "hunter2" not in repr(granted)
    script = (
        '[ "$TOKEN" = hunter2-hunter2 ]; [ "$(cat /etc/gitml-test-secret/user)" = ada-lovelace ]; '
        "printf 'says hunter2-'; sleep 0.1; echo \"hunter2 and $TOKEN\"; cat /etc/gitml-test-secret/user"
    )
    with run(script, granted=granted) as outcome:
        assert outcome.state == "success", (tmp_path / "task.log").read_text()
    assert (tmp_path / "task.log").read_text().endswith("says *** and ***\n***\n")
    leaking = run('mkdir pfs/out/d; echo "a $TOKEN" > pfs/out/d/x', granted=granted)
    assert (leaking.state, leaking.attempts) == ("failed", 1)
    assert leaking.message == "output 'd/x' holds the value of secret 'db/token'"


def test_what_is_missing_is_named(store: SecretStore, make_stage: Callable[..., Stage]) -> None:
    for secret, message in {
        Secret(name="db", env_var="A", key="no"): "secret 'db' has no key 'no' here",
        Secret(name="no", mount_path="/a"): "secret 'no' is not set in this clone",
    }.items():
        with pytest.raises(MissingSecretError) as raised:
            store.grant(make_stage("s", secrets=(secret,)))
        assert raised.value.message == message
    assert store.grant(make_stage("s")) == Granted()


def test_names_are_in_keys_and_values_are_not(make_stage: Callable[..., Stage], tree: Callable[..., Snapshot]) -> None:
    plain, using = make_stage("s"), make_stage("s", secrets=USES)
    params = read_params(plain, tree({}))
    assert task_key(plain, [], params, Datum(())) != task_key(using, [], params, Datum(()))
    assert command_digest(plain, [], ()) != command_digest(using, [], ()), "a new use of a secret has to be reviewed"


@pytest.mark.parametrize("cut", range(1, 24))
def test_a_value_in_pieces_is_masked(cut: int) -> None:
    text = b"x secret-secret secre y z"
    mask = Mask([b"secret-secret", b"secre y"])
    assert mask.feed(text[:cut]) + mask.feed(text[cut:]) + mask.end() == b"x *** *** z"
    assert Mask([]).feed(b"a") == b"a"
