"""Layouts of ImageNet that are refused, with the cause."""

import json
import os
import shutil
import tarfile
import zipfile

import pyarrow
import pyarrow.parquet
import pytest

import tools.imagenet_layouts
from tests.data.layouts import SYNSETS, train_pictures, validation_pictures, write
from tfcredit import data
from tfcredit.errors import UserError

ONE, OTHER, _ = SYNSETS
CLS_LOC = "ILSVRC/Data/CLS-LOC"


def build(root):
    return data.get("imagenet", root, image_size=8)


def move(root, old, new):
    (root / new).parent.mkdir(parents=True, exist_ok=True)
    os.rename(root / old, root / new)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (f"train/{ONE}", "train/n99999999", "train names 'n99999999', which is none of ILSVRC"),
        (f"train/{ONE}", "train/tench", "names 'tench', which is none .*--dataset=folder"),
        (f"val/{ONE}", "val/n99999999", "val names 'n99999999'"),
        (
            f"train/{ONE}/{ONE}_11.JPEG",
            f"train/{OTHER}/{ONE}_11.JPEG",
            f"of class 1 .{OTHER}., but its name says {ONE}: the labels must count",
        ),
        (f"val/{ONE}", "val/n03000134", f"of class 489 .n03000134., but its name says {ONE}"),
        ("val", "test", "holds train/ but neither val/ nor validation/"),
        (f"train/{ONE}/{ONE}_11.JPEG", f"train/{ONE}/{ONE}_12_{ONE}.JPEG", "holds .*_12.* twice"),
    ],
)
def test_folders(tmp_path, old, new, told):
    root = write("folders", tmp_path / "set")
    move(root, old, new)
    with pytest.raises(UserError, match=told):
        build(root)


@pytest.mark.parametrize("part", ["train", "val"])
def test_images_that_are_not_sorted_into_folders_yet(tmp_path, part):
    root = write("folders", tmp_path / "set")
    first = min((root / part).glob("*/*.JPEG"))
    os.rename(first, root / part / first.name)
    with pytest.raises(UserError, match=f"{first.name}' beside the folders of synsets, 1 such"):
        build(root)


def test_folders_of_classes_that_are_empty_or_lead_nowhere(tmp_path):
    root = write("folders", tmp_path / "set")
    move(root, f"train/{ONE}", "elsewhere")
    os.symlink(root / "elsewhere", root / "train" / ONE)
    assert build(root).train_examples == 15
    move(root, "elsewhere", "gone")
    with pytest.raises(UserError, match=f"train/{ONE} can't be read .No such file"):
        build(root)
    os.remove(root / "train" / ONE)
    (root / "train" / ONE).mkdir()
    with pytest.raises(UserError, match=f"train/{ONE} is the folder of a class but holds no image"):
        build(root)
    (root / "train" / ONE / "images").mkdir()  # as in Tiny ImageNet
    with pytest.raises(UserError, match="no image, only the folder 'images': put its images right"):
        build(root)
    shutil.rmtree(root / "train" / ONE)
    os.symlink(root / "train" / OTHER / f"{OTHER}_11.JPEG", root / "train" / ONE)
    with pytest.raises(UserError, match=f"^{root}/train/{ONE} can't be read .Not a directory"):
        build(root)


def test_flat_validation_images_without_labels(tmp_path):
    root = write("flat", tmp_path / "set")
    move(root, f"val/{validation_pictures()[0].name}", "val/photograph.jpg")
    with pytest.raises(UserError, match="'photograph.jpg' without a label, as it is in no folder"):
        build(root)
    for path in (root / "val").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="val holds no image"):
        build(root)


SOLUTION = "LOC_val_solution.csv"


def with_solution(folder, packed, change):
    """Kaggle's copy, in its zip or not, with another file of the validation images' classes."""
    root = write("zip" if packed else "kaggle", folder)
    if packed:
        (path,) = root.iterdir()
        with zipfile.ZipFile(path) as archive:
            contents = {name: archive.read(name) for name in archive.namelist()}
        contents[SOLUTION] = change(contents[SOLUTION])
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
    else:
        (root / SOLUTION).write_bytes(change((root / SOLUTION).read_bytes()))
    return root


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda text: text.replace("ImageId", "Id"), "has the columns Id, Pred.*but ImageId and"),
        (lambda text: "\n".join(text.splitlines()[:-1]), f"label, as it is not in {SOLUTION}"),
        (
            lambda text: text.replace(ONE, "n02123045"),
            f"{SOLUTION} says that .*is of class 281 .n02123045., but its name says {ONE}",
        ),
        (lambda text: text.replace(ONE, "n9"), f"{SOLUTION} names 'n9', which is none of"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_kaggles_solution(tmp_path, packed, spoil, told):
    root = with_solution(tmp_path / "set", packed, lambda content: spoil(content.decode()).encode())
    with pytest.raises(UserError, match=told):
        build(root)


@pytest.mark.parametrize("packed", [False, True])
def test_kaggles_solution_as_other_programs_write_it(tmp_path, packed):
    def saved(content):
        return b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n")

    assert build(with_solution(tmp_path / "saved", packed, saved)).test_examples == 6
    root = with_solution(tmp_path / "utf16", packed, lambda content: content.decode().encode("u16"))
    with pytest.raises(UserError, match="LOC_val_solution.csv has the columns .*but ImageId and"):
        build(root)
    root = with_solution(tmp_path / "bytes", packed, lambda content: b'"' + bytes(200_000))
    with pytest.raises(UserError, match="LOC_val_solution.csv is no table .*but ImageId and"):
        build(root)


def test_a_zip_cut_anywhere(tmp_path):
    (path,) = write("zip", tmp_path / "set").iterdir()
    whole = path.read_bytes()
    for size in [0, 10, *range(1000, len(whole), len(whole) // 7), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match="is no whole zip .*: download it again"):
            build(path)
    path.write_bytes(whole[:-22] + whole[-22:].replace(b"PK\x05\x06", b"PK\x05\x07"))
    with pytest.raises(UserError, match="is no whole zip"):
        build(path)
    path.write_bytes(whole[3000:])  # its start is missing
    with pytest.raises(UserError, match="is no whole zip"):
        build(path)


def test_a_zip_with_a_password(tmp_path):
    (path,) = write("zip", tmp_path / "set").iterdir()
    content = bytearray(path.read_bytes())
    place = content.find(b"PK\x01\x02")
    content[place + 8] |= 1  # what `zip --encrypt` sets
    path.write_bytes(content)
    with pytest.raises(UserError, match="holds '.*' encrypted, but images are read in place: unp"):
        build(path)


def test_a_zip_of_something_else(tmp_path):
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("holiday/beach.jpg", b"x")
    with pytest.raises(UserError, match="holds no images in train/, but .*as in Kaggle's"):
        build(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr(f"train/{ONE}/{ONE}_1.JPEG", b"x")
    with pytest.raises(UserError, match="packed with method 12, but stored or deflated"):
        build(path)


def test_a_zip_with_validation_images_in_folders(tmp_path):
    (path,) = write("zip", tmp_path / "set").iterdir()
    expected = build(path)
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    flat = [name for name in contents if "/val/" in name and name.endswith(".JPEG")]
    synsets = {picture.name: picture.synset for picture in validation_pictures()}
    for number, name in enumerate(flat, 1):
        start, image = name.rsplit("/", 1)
        contents[f"{start}/{synsets[image]}/{image}"] = contents.pop(name)
        with zipfile.ZipFile(path, "w") as archive:
            for each, content in contents.items():
                archive.writestr(each, content)
        if number < len(flat):
            told = f"beside the folders of synsets in val/, {len(flat) - number} such images"
            with pytest.raises(UserError, match=told):
                build(path)
    found = build(path)
    assert found.fingerprints == expected.fingerprints and found.test_examples == len(flat)


def test_files_that_are_sorted_by_class_are_warned_of(tmp_path, monkeypatch):
    monkeypatch.setattr(tools.imagenet_layouts, "ROW_GROUP", 8)
    monkeypatch.setattr(tools.imagenet_layouts, "_mixed", list)
    root = write("parquet", tmp_path / "set", per_class=16)
    with pytest.warns(UserWarning, match="are sorted by class, and Parquet files are read in row"):
        data.get("imagenet", root, image_size=8, shuffle_buffer=20)
    build(root)  # where all images are shuffled together, there is nothing to warn of


def rewritten(root, change, part="train", number=0):
    """Changes the rows or the schema of one Parquet file."""
    path = next(path for path in sorted((root / "data").iterdir()) if part in path.name)
    table = change(pyarrow.parquet.read_table(path))
    pyarrow.parquet.write_table(table, path)
    return path


def other_classes(table):
    features = {"label": {"names": ["airplane", "cat"], "_type": "ClassLabel"}}
    stated = json.dumps({"info": {"features": features}})
    return table.replace_schema_metadata({"huggingface": stated})


def without_paths(table):
    contents = table.column("image").combine_chunks().field("bytes")
    return table.set_column(0, "image", pyarrow.StructArray.from_arrays([contents], ["bytes"]))


def labelled(value, row=0):
    def change(table):
        labels = table.column("label").to_pylist()
        labels[row] = value(labels[row])
        return table.set_column(1, "label", pyarrow.array(labels, pyarrow.int64()))

    return change


def retyped(kind):
    return lambda table: table.set_column(1, "label", table.column("label").cast(kind))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda table: table.rename_columns(["img", "label"]), "has the columns img.bytes, .*but"),
        (lambda table: table.drop_columns(["label"]), "has the columns image.bytes, image.path, b"),
        (other_classes, "of a set with 2 classes, 'airplane' the first .*give ILSVRC/imagenet-1k"),
        (without_paths, "has the columns image.bytes, label, but image.bytes, image.path, label"),
        (labelled(lambda label: (label + 1) % 1000), "is of class .*, but its name says n"),
        (labelled(lambda label: 1000), "the label 1000, but 0 to 999 were expected"),
        (labelled(lambda label: -1), "the label -1, but 0 to 999 were expected"),
        (labelled(lambda label: None), "row 0 of .* has no label"),
        (retyped(pyarrow.string()), "row 0 of .* has the label '.*', but whole numbers were"),
        (retyped(pyarrow.float64()), "has the label .*, but whole numbers were expected"),
    ],
)
def test_parquet_of_another_set(tmp_path, change, told):
    root = write("parquet", tmp_path / "set")
    path = rewritten(root, change)
    with pytest.raises(UserError, match=told) as caught:
        build(root)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("contents", "paths", "labels"),
    [
        (pyarrow.large_binary(), "dictionary", "dictionary"),
        (pyarrow.binary_view(), pyarrow.string_view(), pyarrow.int16()),
        ("dictionary", pyarrow.large_string(), pyarrow.uint16()),
    ],
)
def test_parquet_of_other_types_and_columns(tmp_path, contents, paths, labels):
    expected = build(write("parquet", tmp_path / "plain"))

    def cast(array, kind):
        return array.dictionary_encode() if kind == "dictionary" else array.cast(kind)

    def odd(table):
        image = table.column("image").combine_chunks()
        fields = cast(image.field("path"), paths), cast(image.field("bytes"), contents)
        image = pyarrow.StructArray.from_arrays(fields, ["path", "bytes"])
        label = cast(table.column("label").cast(pyarrow.int32()).combine_chunks(), labels)
        numbers = pyarrow.array(range(len(table)))
        return pyarrow.table({"extra": numbers, "label": label, "image": image})

    root = write("parquet", tmp_path / "odd")
    rewritten(root, odd)
    move(root, "data/validation-00000-of-00001.parquet", "data/val-00000-of-00001.parquet")
    found = build(root)
    assert found.fingerprints == expected.fingerprints
    places = range(found.train_examples)
    read, its = (one.source.train_images.read(list(places)) for one in (found, expected))
    assert read == its and all(read)


def test_parquet_of_no_rows_is_named(tmp_path):
    root = write("parquet", tmp_path / "set")
    path = rewritten(root, lambda table: table.slice(0, 0), "validation")
    with pytest.raises(UserError, match=f"{path} holds no image"):
        build(root)


def test_parquet_that_is_cut(tmp_path):
    root = write("parquet", tmp_path / "set")
    path = root / "data" / "train-00001-of-00002.parquet"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(UserError, match="train-00001.* is no whole Parquet file .*download it"):
        build(root)


def resaved(path, change):
    """Changes the members of a tar: name -> content."""
    with tarfile.open(path) as archive:
        members = {one.name: archive.extractfile(one).read() for one in archive}
    change(members)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            tools.imagenet_layouts._add(archive, name, content)


def without(*endings):
    def change(members):
        key = next(iter(members)).split(".")[0]
        for ending in endings:
            del members[f"{key}.{ending}"]

    return change


def replaced(ending, content):
    def change(members):
        members[f"{next(iter(members)).split('.')[0]}.{ending}"] = content

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without("cls", "json"), "sample 'n.*' of .* has no cls or json with its label, but KEY"),
        (without("jpg"), "sample 'n.*' of .* has no image, but KEY.jpg"),
        (replaced("cls", b"7"), "sample 'n.*' of .* has the labels .*7.*, but one class number"),
        (replaced("json", b"7"), "'n.*.json' of .* is no JSON object"),
        (replaced("png", b"x"), "sample 'n.*' of .* has 'n.*.jpg' and then 'n.*.png', but one"),
        (replaced("JSON", b"{}"), "has 'n.*.json' and then 'n.*.JSON', but one image and"),
    ],
)
def test_webdataset_samples(tmp_path, change, told):
    root = write("webdataset", tmp_path / "set")
    resaved(root / "imagenet1k-train-0001.tar", change)
    with pytest.raises(UserError, match=told) as caught:
        build(root)
    assert "imagenet1k-train-0001.tar" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"tench", "sample 'n.*' of .* has no label, but one class number"),
        (b"1000", "the label 1000, but 0 to 999"),
        (b"3", "is of class 3 .*, but its name says n"),
    ],
)
def test_webdataset_labels(tmp_path, content, told):
    root = write("webdataset", tmp_path / "set")

    def change(members):
        without("json")(members)
        replaced("cls", content)(members)

    resaved(root / "imagenet1k-train-0001.tar", change)
    with pytest.raises(UserError, match=told):
        build(root)


def renamed(start, end):
    def change(members):
        for name in list(members):
            if name.startswith(start):
                stem, _, ending = name.partition(".")
                members[f"{stem}{end}.{ending}"] = members.pop(name)

    return change


def test_webdataset_keys_with_dots(tmp_path):
    root = write("webdataset", tmp_path / "set")
    path = root / "imagenet1k-train-0001.tar"

    def with_masks(members):
        for name in [name for name in members if name.endswith(".jpg")]:
            members[name.replace(".jpg", ".mask.png")] = members["._" + name] = b"x"

    resaved(path, with_masks)
    assert build(root).train_examples == 15  # a mask is no sample, nor is what a Mac adds
    told = r"0001.tar holds 'n.*\.v2\..*', but KEY.jpg and KEY.cls or KEY.json were expected"

    def with_more(members):
        for name in [name for name in members if name.startswith(ONE) and name.count(".") == 1]:
            members[name.replace(".", ".v2.")] = members[name]

    resaved(path, with_more)  # not second images of samples, as they have labels
    with pytest.raises(UserError, match=told):
        build(root)
    resaved(path, renamed(ONE, ".v2"))
    with pytest.raises(UserError, match=told):
        build(root)


def test_webdataset_tars_that_are_compressed(tmp_path):
    root = write("webdataset", tmp_path / "set")
    for path in root.glob("*.tar"):
        path.rename(f"{path}.gz")
    with pytest.raises(UserError, match="'imagenet1k-train-0000.tar.gz', which is compressed, "):
        build(root)


def test_either_label_of_a_webdataset_sample_will_do(tmp_path):
    root = write("webdataset", tmp_path / "set")
    resaved(root / "imagenet1k-train-0000.tar", without("json"))
    resaved(root / "imagenet1k-train-0001.tar", without("cls"))

    def by_synset(members):
        name = next(name for name in members if name.endswith(".cls"))
        members[name] = name.split("_")[0].encode()

    resaved(root / "imagenet1k-train-0001.tar", by_synset)
    assert build(root).train_examples == 15


@pytest.mark.parametrize("numbered", [False, True])
def test_webdataset_tars_may_lie_in_a_folder_for_each_part(tmp_path, numbered):
    root = write("webdataset", tmp_path / "set")
    for path in sorted(root.glob("*.tar")):
        _, part, name = path.name.split("-")
        move(root, path.name, f"{part}/{name if numbered else path.name}")
    found = data.get("auto", root, image_size=8)
    assert (found.train_examples, found.test_examples) == (15, 6)


@pytest.mark.parametrize("layout", ["parquet", "webdataset"])
def test_hidden_files_are_no_shards(tmp_path, layout):
    root = write(layout, tmp_path / "set")
    path = next(path for path in sorted(root.rglob("*train*")) if path.is_file())
    for start in (".", "._", ".partial-"):  # those of a Mac, of downloads that go on
        (path.parent / (start + path.name)).write_bytes(b"x")
    assert build(root).train_examples == 15


def test_a_webdataset_tar_that_is_cut(tmp_path):
    root = write("webdataset", tmp_path / "set")
    path = root / "imagenet1k-train-0001.tar"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match="train-0001.tar is no whole tar archive"):
        build(root)


@pytest.mark.parametrize(
    ("layout", "missing", "told"),
    [
        ("parquet", "data/train-00000-of-00002.parquet", "1 of 2 files of train .*number 0 the"),
        ("parquet", "data/validation-00000-of-00001.parquet", "of train but none of validation"),
        ("webdataset", "imagenet1k-train-0000.tar", "1 of 2 files of train such as imagenet1k"),
        ("webdataset", "imagenet1k-train-*.tar", "files of validation but none of train"),
    ],
)
def test_incomplete_shards(tmp_path, layout, missing, told):
    root = write(layout, tmp_path / "set")
    for path in root.glob(missing):
        path.unlink()
    with pytest.raises(UserError, match=told):
        build(root)


def test_two_sets_in_one_folder(tmp_path):
    root = write("webdataset", tmp_path / "set")
    shutil.copy(root / "imagenet1k-train-0001.tar", root / "mini-train-1.tar")
    with pytest.raises(UserError, match="train-0001.tar and mini-train-1.tar, two files"):
        build(root)
    os.rename(root / "mini-train-1.tar", root / "imagenet1k-train-0002.tar")
    with pytest.raises(UserError, match="holds 'n.*' twice"):
        build(root)


def test_a_file_is_not_a_folder(tmp_path):
    root = write("webdataset", tmp_path / "set")
    with pytest.raises(UserError, match="is a file, but a folder was expected, or Kaggle's"):
        build(root / "imagenet1k-train-0000.tar")


def test_folders_of_other_classes_are_not_taken_for_imagenet(tmp_path):
    for picture in train_pictures():
        path = tmp_path / "train" / f"class {picture.label}" / picture.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture.content)
    assert data.get("auto", tmp_path).name == "embedded"
    with pytest.raises(UserError, match="no ImageNet in .*folders by synset, Kaggle's copy"):
        build(tmp_path)
