"""Layouts on disk → samples: counts, ids, cameras, and errors that name the place."""

import pytest

from ppcls.data.dataset import open_dataset, train_labels
from ppcls.data.dataset.market import parse_name
from ppcls.data.dataset.mixed import parse_expression
from ppcls.data.dreamed import open_dreamed
from ppcls.data.sample import Sample
from ppcls.utils.errors import UserError


def ids(samples):
    return sorted({sample.pid for sample in samples})


def cameras(samples):
    return sorted({sample.camid for sample in samples})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("0002_c1s1_000451_03.jpg", (2, 1)),
        ("0007_c15s2_000451_03.jpg", (7, 15)),
        ("1040_c10_0001.jpg", (1040, 10)),
        ("-1_c3s1_000001_00.jpg", (-1, 3)),
        ("x_0003_c4.jpg", (3, 4)),
        ("0001_c2_0009_c5.jpg", (1, 2)),
    ],
)
def test_person_and_camera_from_the_name(name, expected):
    assert parse_name(f"/some/9999_c99/{name}") == expected


def test_market_layout(tmp_path, make_market, write_image):
    root = make_market(tmp_path / "market")
    write_image(root / "bounding_box_test" / "-1_c1s1_000000_00.jpg", 1)
    write_image(root / "bounding_box_test" / "0000_c3s1_000000_00.jpg", 2)
    write_image(root / "bounding_box_train" / "0001_c15s1_9.JPEG", 3, format="JPEG")
    write_image(root / "bounding_box_train" / "0001_c15s1_9.PNG", 4, format="PNG")
    (root / "bounding_box_train" / "Thumbs.db").write_bytes(b"x")
    (root / "bounding_box_train" / "._0001_c1s1_000000_00.jpg").write_bytes(b"x")
    data = open_dataset("market", tmp_path)
    assert (len(data.train), len(data.query), len(data.gallery)) == (32, 3, 7)
    assert ids(data.train) == [1, 2, 3, 4, 5, 6] and data.num_train_ids == 6
    assert ids(data.gallery) == [0, 101, 102, 103]
    assert cameras(data.train) == [1, 2, 3, 15] and cameras(data.gallery) == [2, 3, 12]
    for split in (data.train, data.query, data.gallery):
        assert [s.path for s in split] == sorted(s.path for s in split)
    assert data.queries == [("market", data.query)]
    rows = [[cell.strip() for cell in line.split("|")] for line in data.banner().splitlines() if "|" in line]
    assert rows == [
        ["subset", "# ids", "# images", "# cameras"],
        ["train", "6", "32", "4"],
        ["query", "3", "3", "1"],
        ["gallery", "4", "7", "3"],
    ]


@pytest.mark.parametrize(
    ("folder", "name", "canonical"),
    [
        ("Market-1501-v15.09.15", "Market1501", "market"),
        ("duke", "dukemtmcreid", "duke"),
        ("DukeMTMC-reID", "duke", "duke"),
        ("cuhk03", "CUHK03", "cuhk03"),
        ("msmt17", "msmt17", "msmt17"),
        ("CUHK99", "CUHK99", "CUHK99"),
    ],
)
def test_names_and_aliases(tmp_path, make_market, folder, name, canonical):
    make_market(tmp_path / folder)
    data = open_dataset(name, tmp_path)
    assert data.name == canonical and len(data.train) == 30


def test_only_the_splits_asked_for(tmp_path, make_market):
    make_market(tmp_path / "market")
    data = open_dataset("market", tmp_path, splits=("query", "gallery"))
    assert data.train == [] and len(data.query) == 3
    with pytest.raises(UserError, match="unknown split 'test'"):
        open_dataset("market", tmp_path, splits=("test",))


def test_spaces_and_unicode_in_paths(tmp_path, make_market):
    root = tmp_path / "дані 数据 ü"
    make_market(root / "market")
    data = open_dataset("market", root)
    assert len(data.train) == 30 and "数据 ü" in data.train[0].path


def test_missing_and_empty_folders_are_named(tmp_path, make_market):
    with pytest.raises(UserError, match=r"market does not exist; expected .*bounding_box_train"):
        open_dataset("market", tmp_path)
    root = make_market(tmp_path / "market")
    for file in (root / "query").iterdir():
        file.rename(file.with_name(f"-1_c1_{file.name}"))
    with pytest.raises(UserError, match=r"split 'query' holds no usable image"):
        open_dataset("market", tmp_path)
    for file in (root / "query").iterdir():
        file.unlink()
    (root / "query").rmdir()
    with pytest.raises(UserError, match=r"market/query does not exist.*bounding_box_test"):
        open_dataset("market", tmp_path)


def test_unknown_names_get_a_suggestion(tmp_path):
    with pytest.raises(UserError, match="did you mean 'market'"):
        open_dataset("markt", tmp_path)
    (tmp_path / "thing").mkdir()
    with pytest.raises(UserError, match="holds no data set that is known here"):
        open_dataset("thing", tmp_path)


def test_bad_names_are_errors(tmp_path, make_market, write_image):
    root = make_market(tmp_path / "market")
    write_image(root / "query" / "portrait.jpg", 1)
    with pytest.raises(UserError, match=r"portrait\.jpg; expected"):
        open_dataset("market", tmp_path)
    (root / "query" / "portrait.jpg").rename(root / "query" / "-7_c1.jpg")
    with pytest.raises(UserError, match="person id -7"):
        open_dataset("market", tmp_path)


@pytest.fixture
def msmt17_v1(tmp_path, write_image):
    root = tmp_path / "MSMT17_V1"
    entries = {
        "train": [
            ("0000/0000_000_01_0303morning_0015_0.jpg", 0),
            ("0001/0001_000_15_0303noon_0001_0.jpg", 1),
        ],
        "val": [("0000/0000_001_10_0303morning_0016_0.jpg", 0)],
        "query": [("0000/0000_000_03_0303noon_0001_0.jpg", 0)],
        "gallery": [
            ("0000/0000_001_04_0303noon_0001_1.jpg", 0),
            ("0001/0001_000_11_0303noon_0001_2.jpg", 1),
        ],
    }
    for number, (key, lines) in enumerate(entries.items()):
        folder = root / ("train" if key in ("train", "val") else "test")
        for k, (name, _) in enumerate(lines):
            write_image(folder / name, 10 * number + k)
        (root / f"list_{key}.txt").write_text("".join(f"{name} {pid}\r\n" for name, pid in lines))
    return root


def test_msmt17_original_layout(tmp_path, msmt17_v1):
    data = open_dataset("MSMT17_V1", tmp_path)
    assert data.name == "msmt17" and not data.one_numbering
    assert ids(data.train) == [0, 1] and cameras(data.train) == [1, 10, 15] and len(data.train) == 3
    assert [(s.pid, s.camid) for s in data.query] == [(0, 3)]
    assert sorted((s.pid, s.camid) for s in data.gallery) == [(0, 4), (1, 11)]
    assert "/test/0000/" in data.query[0].path
    assert len(open_dataset("msmt17_noval", tmp_path).train) == 2


def test_msmt17_list_errors_name_the_line(tmp_path, msmt17_v1):
    with (msmt17_v1 / "list_train.txt").open("a") as handle:
        handle.write("0001/0001_001_15_0303noon_0001_0.jpg one\n")
    with pytest.raises(UserError, match=r"list_train\.txt line 3"):
        open_dataset("msmt17", tmp_path)
    (msmt17_v1 / "list_gallery.txt").unlink()
    with pytest.raises(UserError, match=r"list_gallery\.txt does not exist"):
        open_dataset("msmt17", tmp_path, ("gallery",))


def test_folder_layout(tmp_path, write_image):
    write_image(tmp_path / "train" / "bob" / "x_c3_1.jpg", 1)
    write_image(tmp_path / "train" / "alice" / "cam12" / "1.jpg", 2)
    write_image(tmp_path / "query" / "carol" / "C2-1.png", 3)
    write_image(tmp_path / "gallery" / "carol" / "1" / "1.jpg", 4)
    write_image(tmp_path / "gallery" / "0" / "1" / "2.jpg", 5)
    write_image(tmp_path / "gallery" / "-1" / "1" / "3.jpg", 6)
    data = open_dataset(f"folder:{tmp_path}", "unused")
    assert [(s.pid, s.camid) for s in data.train] == [(1, 12), (2, 3)]
    assert [(s.pid, s.camid) for s in data.query] == [(3, 2)]
    assert sorted((s.pid, s.camid) for s in data.gallery) == [(0, 1), (3, 1)]
    assert open_dataset(f"folder:{tmp_path}", "unused", ("query",)).query == data.query
    assert open_dataset(tmp_path.name, tmp_path.parent).gallery == data.gallery
    write_image(tmp_path / "query" / "carol" / "nothing.jpg", 7)
    with pytest.raises(UserError, match=r"camera of .*nothing\.jpg"):
        open_dataset(f"folder:{tmp_path}", "unused")


def test_folder_layout_with_numbers_keeps_them(tmp_path, write_image):
    for split, pid in (("train", "0017"), ("query", "5"), ("gallery", "05")):
        write_image(tmp_path / split / pid / "a_c1.jpg", 1)
    data = open_dataset(f"folder:{tmp_path}", "unused")
    assert (data.train[0].pid, data.query[0].pid, data.gallery[0].pid) == (17, 5, 5)


def test_csv(tmp_path, write_image):
    for k in range(4):
        write_image(tmp_path / "bilder ü" / f"{k}.jpg", k)
    table = tmp_path / "set.csv"
    table.write_text(
        "\ufeffsplit,path,pid,camid,remark\n"
        "train,bilder ü/0.jpg,7,12,\n"
        "query,bilder ü/1.jpg,8,1,x\n"
        f"gallery,{tmp_path}/bilder ü/2.jpg,8,2,y\n"
        "gallery,bilder ü/3.jpg,-1,2,y\n",
        encoding="utf-8",
    )
    data = open_dataset(f"csv:{table}", "unused")
    assert [(s.pid, s.camid) for s in data.train + data.query + data.gallery] == [(7, 12), (8, 1), (8, 2)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,pid,split\na.jpg,1,train\n", "line 1: column camid is missing"),
        (
            "path,pid,camid,split\na.jpg,1,1,train\na.jpg,one,1,train\n",
            "line 3: pid 'one' is not a whole number",
        ),
        ("path,pid,camid,split\na.jpg,1,1,trian\n", "line 2: split 'trian' is none of"),
        ("path,pid,camid,split\na.jpg,1,,train\n", "line 2: column 'camid' is empty"),
        ("path,pid,camid,split\na.jpg,1,1\n", "line 2: column 'split' is empty"),
        ("path,pid,camid,split\nb.jpg,1,1,train\n", r"line 2: image .*b\.jpg does not exist"),
        ("path,pid,camid,split\na.jpg,1,1,train\n", "split 'query' holds no usable image"),
        ("", "line 1: column path"),
    ],
)
def test_csv_errors_name_the_line(tmp_path, write_image, text, message):
    write_image(tmp_path / "a.jpg", 1)
    (tmp_path / "set.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        open_dataset(f"csv:{tmp_path / 'set.csv'}", "unused")


def test_labels_come_from_sorted_ids():
    assert train_labels([Sample("b", 30, 0), Sample("a", 7, 0), Sample("c", 7, 1)]) == {7: 0, 30: 1}


def known(*names):
    return lambda text: text in names


@pytest.mark.parametrize(
    ("expression", "parts"),
    [
        ("a", [["a"]]),
        ("a+b", [["a"], ["b"]]),
        ("aUb", [["a", "b"]]),
        ("aUb+c", [["a", "b"], ["c"]]),
        ("CUHK", [["CUHK"]]),
        ("aUCUHK+b", [["a", "CUHK"], ["b"]]),
        ("folder:/x+y/Uz+a", [["folder:/x+y/Uz"], ["a"]]),
        ("aUfolder:/x+y/Uz", [["a", "folder:/x+y/Uz"]]),
    ],
)
def test_expressions(expression, parts):
    assert parse_expression(expression, known("a", "b", "c", "CUHK", "folder:/x+y/Uz")) == parts


@pytest.mark.parametrize("expression", ["a+", "+a", "aU", "a++b", "a+a", "aUa", ""])
def test_bad_expressions(expression):
    with pytest.raises(UserError):
        parse_expression(expression, known("a", "b"))


def test_mixed_sets_do_not_overlap(tmp_path, make_market):
    make_market(tmp_path / "market", seed=1)
    make_market(tmp_path / "duke", train_ids=4, seed=2)
    plain = [open_dataset(name, tmp_path) for name in ("market", "duke")]
    mixed = open_dataset("market+duke", tmp_path)
    assert [name for name, _ in mixed.queries] == ["market", "duke"]
    assert [len(queries) for _, queries in mixed.queries] == [3, 3]
    assert len(mixed.gallery) == 12 and mixed.num_train_ids == 10 and len(mixed.query) == 6
    first = [s for s in mixed.train + mixed.query + mixed.gallery if s.domain == 0]
    second = [s for s in mixed.train + mixed.query + mixed.gallery if s.domain == 1]
    assert not set(ids(first)) & set(ids(second)) and not set(cameras(first)) & set(cameras(second))
    assert len(first) == 39 and len(second) == 29
    assert [s.path for s in first if s in plain[0].train] == [s.path for s in plain[0].train]
    # a query keeps its matches, and finds none in the other set
    for query in mixed.queries[1][1]:
        matches = [s for s in mixed.gallery if s.pid == query.pid]
        assert len(matches) == 2 and all("/duke/" in s.path for s in matches)
    union = open_dataset("marketUduke", tmp_path)
    assert [(name, len(queries)) for name, queries in union.queries] == [("marketUduke", 6)]
    assert union.train == mixed.train and union.gallery == mixed.gallery
    assert "query market" in mixed.banner()


def test_dreamed_images(tmp_path, write_image):
    for pid in (3, 12):
        for k in range(4):
            write_image(tmp_path / f"{pid}_{k}{'ab' * 4}.jpg", pid + k)
    write_image(tmp_path / "3_-991.png", 5)
    (tmp_path / ".3_half.part.jpg").write_bytes(b"")
    dreamed = open_dreamed(tmp_path, exemplars=3)
    assert [s.pid for s in dreamed].count(3) == 3 and [s.pid for s in dreamed].count(12) == 3
    assert {s.camid for s in dreamed} == {-1} and dreamed == sorted(dreamed)
    assert len(open_dreamed(tmp_path)) == 9
    write_image(tmp_path / "3_1_2.jpg", 5)
    with pytest.raises(UserError, match=r"3_1_2\.jpg is not named like a dreamed image"):
        open_dreamed(tmp_path)


def test_dreamed_folder_must_be_there(tmp_path):
    with pytest.raises(UserError, match=r"does not exist; make it with tools/inversion\.py"):
        open_dreamed(tmp_path / "none")
    with pytest.raises(UserError, match="holds no dreamed image"):
        open_dreamed(tmp_path)
