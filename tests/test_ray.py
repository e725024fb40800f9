"""A local Ray cluster of several node processes: the same bytes as one process, and nothing lost with a node."""

import os
import pickle
import sys
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.test_stream import CutOffError, cut_off_after, damage, files_below, make_table
from vsae_fast import VSAEImputer, impute_parquet
from vsae_fast.impute_table import ImputeTable, n_missing
from vsae_fast.parquet_parts import Todo
from vsae_fast.parquet_source import find_files

QUICK = {"epochs": 2, "n_models": 1, "n_samples": 20}
NODES = 2
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def model():
    return VSAEImputer(random_state=0, **QUICK).fit(make_table(300))


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in.parquet"
    pq.write_table(make_table(1000), path, row_group_size=100, compression={"a": "zstd", "n": "gzip"})
    return path


@pytest.fixture(scope="module")
def cluster():
    """A head without processors and two nodes of one processor each; more may join and leave."""
    pytest.importorskip("ray", reason="Ray is not installed (extra ray)")
    import ray
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 starves workers beside whatever else the machine does
    options = {"object_store_memory": 100_000_000}
    before = set(threading.enumerate())
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **options})
    for _ in range(NODES):
        made.add_node(num_cpus=1, **options)
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()
    # Of ours or Ray's, at work beside all later tests; tqdm's monitor serves every bar of a process.
    left = {thread.name for thread in threading.enumerate() if thread not in before}
    assert left <= {"tqdm_monitor"}


# ---- the unit of work -----------------------------------------------------------------------------------------------


def test_impute_table_goes_through_pickle_with_its_model(model, tmp_path):
    days = pa.array(np.datetime64("2024-01-01") + np.arange(200))
    table = make_table(200, seed=3).add_column(1, "day", days)
    model.save(tmp_path / "m")
    work = ImputeTable(tmp_path / "m", ignore=["day"], n_samples=20)
    work(table)  # a model that was read does not travel
    travelled = pickle.dumps(work)
    (tmp_path / "m").unlink()
    completed, filled = pickle.loads(travelled).complete(table)
    assert len(travelled) < 1_000_000
    assert completed.schema.equals(table.schema, check_metadata=True)
    assert completed["day"].equals(table["day"])
    assert filled == {name: table[name].null_count for name in ("a", "n", "k")}
    assert completed.num_rows == 200
    assert sum(column.null_count for column in completed.columns) == 0


def test_impute_table_by_batches_is_the_whole(model):
    table = make_table(250, seed=4)
    work = ImputeTable(model)
    parts = list(work.batches(iter(table.to_batches(max_chunksize=60))))
    assert pa.Table.from_batches(parts).equals(model.transform(table))


def test_impute_table_refuses_a_wrong_model_file_at_once(tmp_path):
    (tmp_path / "m").write_bytes(b"no model")
    with pytest.raises(ValueError, match="is not a vsae_fast model file"):
        ImputeTable(tmp_path / "m")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        ImputeTable(tmp_path / "n")


def test_missing_cells_are_nulls_and_nans():
    column = pa.chunked_array([[1.0, None, float("nan")], [float("nan"), 2.0]])
    assert n_missing(column) == 3
    assert n_missing(pa.chunked_array([["a", None]])) == 1
    assert n_missing(pa.chunked_array([[None, None]])) == 2


def test_spark_maps_it_over_partitions(monkeypatch):
    """The way that the documentation shows; where Spark and a Java are installed."""
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    sql = pytest.importorskip("pyspark.sql", reason="Spark is not installed")
    spark = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        table = make_table(300, seed=5).drop_columns("n")  # Spark turns integers with holes into its own
        imputer = VSAEImputer(random_state=0, **QUICK).fit(table)
        frame = spark.createDataFrame(table.to_pandas().astype(object).where(table.to_pandas().notna(), None))
        completed = frame.mapInArrow(ImputeTable(imputer).batches, frame.schema).toPandas()
    finally:
        spark.stop()
    expected = imputer.transform(table).to_pandas()
    assert completed["k"].tolist() == expected["k"].tolist()
    np.testing.assert_array_equal(completed["a"], expected["a"])


# ---- a cluster ------------------------------------------------------------------------------------------------------


def test_the_same_bytes_as_one_process(cluster, source, model, tmp_path):
    seen = []
    impute_parquet(source, tmp_path / "one.parquet", model)
    report = impute_parquet(
        source, tmp_path / "many.parquet", model, engine="ray", progress=lambda *done: seen.append(done)
    )
    assert (tmp_path / "many.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()
    assert seen == [(i, 10) for i in range(1, 11)]
    assert report.filled == {name: pq.read_table(source)[name].null_count for name in ("a", "n", "k")}
    assert files_below(tmp_path) == ["in.parquet", "many.parquet", "one.parquet"]


def test_a_killed_node_loses_nothing(cluster, source, model, tmp_path):
    impute_parquet(source, tmp_path / "one.parquet", model, n_samples=1000)
    doomed = cluster.add_node(num_cpus=1, object_store_memory=100_000_000)
    cluster.wait_for_nodes()
    killed = []

    def kill(done, total):
        if done == 2:
            cluster.remove_node(doomed, allow_graceful=False)
            killed.append(done)

    impute_parquet(source, tmp_path / "many.parquet", model, engine="ray", concurrency=3, progress=kill, n_samples=1000)
    assert killed
    assert (tmp_path / "many.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()


def test_workers_without_a_processor_hold_nothing_up(cluster, source, model, tmp_path):
    """More are asked for than the cluster has processors for, or than it has left."""
    impute_parquet(source, tmp_path / "one.parquet", model)
    impute_parquet(source, tmp_path / "many.parquet", model, engine="ray", concurrency=NODES + 2)
    assert (tmp_path / "many.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()


def test_a_row_group_that_kills_its_workers_is_named(cluster, source, model, tmp_path):
    """As one does that is too large for their memory; the others are done all the same."""
    from vsae_fast.ray import completed_parts

    table = make_table(1000)
    deadly = table["full"][400].as_py()  # the first row of row group 4

    class Deadly(ImputeTable):
        def complete(self, table):
            if table["full"][0].as_py() == deadly:
                os._exit(137)
            return super().complete(table)

    files = find_files(source)
    todo = [Todo(0, group, f"{group}.parquet") for group in range(10)]
    parts = completed_parts(files, Deadly(model, n_samples=20), tmp_path, todo, address=None, concurrency=2)
    done = []
    with pytest.raises(
        RuntimeError, match=r"row group 4 of .*in\.parquet: 3 workers died at it; give them more memory"
    ):
        done.extend(part.name for part in parts)
    assert "4.parquet" not in done
    assert not list(tmp_path.glob(".*"))  # nor is anything left half-written


@pytest.mark.parametrize("engines", [("ray", "local"), ("local", "ray")])
def test_a_run_goes_on_with_the_other_engine(cluster, source, model, tmp_path, engines):
    impute_parquet(source, tmp_path / "one.parquet", model)
    target = tmp_path / "many.parquet"
    with pytest.raises(CutOffError):
        impute_parquet(source, target, model, engine=engines[0], progress=cut_off_after(4))
    report = impute_parquet(source, target, model, engine=engines[1])
    assert report.resumed == 4
    assert target.read_bytes() == (tmp_path / "one.parquet").read_bytes()


def test_damaged_row_groups_are_named_by_workers(cluster, source, model, tmp_path):
    damage(source, 3)
    with pytest.raises(ValueError, match=r"row group 3 of .*in\.parquet cannot be read"):
        impute_parquet(source, tmp_path / "a.parquet", model, engine="ray")
    report = impute_parquet(source, tmp_path / "b.parquet", model, engine="ray", on_error="skip")
    assert len(report.skipped) == 1
    assert report.rows == 900


def test_an_address_beside_a_connection_is_refused(cluster, source, model, tmp_path):
    with pytest.raises(ValueError, match="Ray is connected already; leave address='auto' out"):
        impute_parquet(source, tmp_path / "o.parquet", model, engine="ray", address="auto")


@pytest.mark.parametrize("bootstrap", [False, True])
def test_networks_trained_on_a_cluster_are_those_of_one_machine(cluster, bootstrap):
    from vsae_fast.ray import fit

    options = {"epochs": 3, "n_models": 2, "bootstrap": bootstrap, "n_samples": 20, "random_state": 0}
    table = make_table(1200)
    alone = VSAEImputer(**options).fit(table)
    heard = []
    spread = VSAEImputer(callbacks=[heard.append], **options)
    assert fit(spread, table) is spread
    assert spread.history_ == alone.history_
    for one, other in zip(alone.models_, spread.models_, strict=True):
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name])
    assert spread.transform(table).equals(alone.transform(table))
    assert {told.epoch for told in heard} == {0, 1, 2}
    # A further fit goes on from there.
    assert (
        fit(spread.set_params(warm_start=True), table).history_ == alone.set_params(warm_start=True).fit(table).history_
    )


def test_what_cannot_be_trained_on_a_cluster_is_refused(cluster, tmp_path):
    from vsae_fast.ray import fit

    with pytest.raises(ValueError, match="checkpoint_dir is for trainings on one machine"):
        fit(VSAEImputer(checkpoint_dir=tmp_path), make_table(50))
    with pytest.raises(ValueError, match="use device='cpu', not 'cuda'"):
        fit(VSAEImputer(device="cuda"), make_table(50))
    with pytest.raises(ValueError, match="epochs must be an integer of at least 0"):
        fit(VSAEImputer(epochs=-1), make_table(50))


def test_ray_data_is_completed_cell_by_cell(cluster, model):
    import ray

    from vsae_fast.ray import impute_dataset

    table = make_table(700, seed=8)
    dataset = ray.data.from_arrow([table.slice(0, 250), table.slice(250)])
    completed = impute_dataset(dataset, model, batch_rows=100, concurrency=2)
    result = pa.concat_tables(ray.get(completed.to_arrow_refs())).sort_by("full")
    expected = model.transform(table).sort_by("full")
    assert result.column_names == expected.column_names
    for name in expected.column_names:
        assert result[name].to_pylist() == expected[name].to_pylist()


def test_wrong_calls(source, model, tmp_path, monkeypatch):
    target = tmp_path / "o.parquet"
    with pytest.raises(ValueError, match="unknown engine 'spark'; use 'local' or 'ray'"):
        impute_parquet(source, target, model, engine="spark")
    with pytest.raises(ValueError, match="address and concurrency are for engine='ray'"):
        impute_parquet(source, target, model, concurrency=2)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'vsae_fast\[ray\]'"):
        impute_parquet(source, target, model, engine="ray", restart=True)
