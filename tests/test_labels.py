"""The vocabularies and the mapping between them."""

from __future__ import annotations

import ast
import json
from importlib.resources import files
from pathlib import Path

import pytest
from timm.data import ImageNetInfo

import gradcut
from gradcut import labels
from gradcut.errors import GradcutError
from gradcut.labels import read_names

INFO = ImageNetInfo("imagenet-1k")
ENTRIES = json.loads(files("gradcut").joinpath("data/labels.json").read_text(encoding="utf-8"))["coco"]
UNUSED = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}


def test_vocabularies():
    ids = labels.coco_ids()
    assert len(ids) == 80
    assert set(ids.values()) == set(range(1, 91)) - UNUSED
    assert list(ids.values()) == sorted(ids.values())
    assert (ids["person"], ids["stop sign"], ids["dining table"], ids["toothbrush"]) == (1, 13, 67, 90)
    assert len(labels.voc_labels()) == 20
    assert labels.voc_labels() == tuple(sorted(labels.voc_labels()))
    assert len(set(labels.imagenet_ids())) == len(set(labels.imagenet_labels())) == 1000
    assert labels.imagenet_ids()[207] == "n02099601"
    assert labels.imagenet_labels()[207] == "golden retriever"
    assert labels.vocabulary("coco") == tuple(ids)
    assert labels.vocabulary("voc") == labels.voc_labels()
    assert labels.vocabulary("imagenet") == labels.imagenet_labels()
    assert labels.vocabulary("other") is None


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["name"])
def test_each_member_is_named_as_imagenet_has_it(entry):
    members = entry["imagenet"] + entry["related"]
    assert len(members) == len(set(members))
    for member in members:
        wnid, name = member.split(" ", 1)
        index = INFO.label_names().index(wnid)
        assert INFO.index_to_description(index).split(", ")[0] == name


def test_no_class_is_of_two_kinds():
    members = [member for entry in ENTRIES for member in entry["imagenet"]]
    assert len(members) == len(set(members))


@pytest.mark.parametrize(
    ("label", "number"), [("dog", 118), ("cat", 5), ("bird", 59), ("bear", 4), ("giraffe", 0), ("stop sign", 0)]
)
def test_sizes_of_groups(label, number):
    assert len(labels.group(label, labels.imagenet_labels())) == number


def test_dogs_are_one_run_of_wordnet():
    assert labels.group("dog", labels.imagenet_labels()) == tuple(range(151, 269))
    # By WordNet id, and by the full description that transformers has, as well.
    assert labels.group("dog", labels.imagenet_ids()) == tuple(range(151, 269))
    descriptions = [INFO.index_to_description(i) for i in range(1000)]
    assert labels.group("dog", descriptions) == tuple(range(151, 269))


def test_mistakes_of_the_first_mapping_are_not_in_it():
    def words(label: str, related: bool = False) -> set[str]:
        return {labels.imagenet_labels()[i] for i in labels.group(label, labels.imagenet_labels(), related)}

    assert "minivan" in words("car")
    assert "minivan" not in words("truck", related=True)
    assert "pomegranate" not in words("apple", related=True)
    assert "dial telephone" not in words("cell phone", related=True)
    assert "purse" in words("handbag")
    assert "baseball" in words("sports ball")
    assert "baseball" not in words("baseball bat")
    assert "baseball" in words("baseball bat", related=True)


def test_own_label_wins_and_namesakes_are_found():
    own = ("couch", "tv", "Dog")
    assert labels.group("sofa", own) == (0,)
    assert labels.group("tvmonitor", own) == (1,)
    assert labels.group("dog", own) == (2,)
    assert labels.group("motorcycle", ("motorbike",)) == (0,)
    assert labels.group("zebra", own) == ()
    # ImageNet's kite is a bird; as a label it is itself, as a kind there is none.
    kite = labels.imagenet_labels().index("kite")
    assert labels.group("kite", labels.imagenet_labels()) == (kite,)
    assert labels.kinds("kite", labels.imagenet_labels()) == ()
    # The dog and the garment differ in case only.
    assert labels.group("Cardigan", labels.imagenet_labels()) == (264,)
    assert labels.group("cardigan", labels.imagenet_labels()) == (474,)


def test_voc_has_its_kinds():
    for label in labels.voc_labels():
        assert labels.kinds(label, labels.imagenet_labels()), label


def test_other_vocabularies_get_no_imagenet_groups():
    assert labels.group("dog", ("tabby", "Chihuahua", "church")) == ()


def test_no_module_has_a_vocabulary_of_its_own():
    """COCO's ids and VOC's names are data, which one module reads."""
    package = Path(gradcut.__file__).parent
    for path in package.rglob("*.py"):
        literals = {
            node.value
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        for vocabulary in (labels.voc_labels(), labels.coco_ids()):
            assert len(literals & set(vocabulary)) < 5, path


# Files of names ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "cat\ndog\nbig cow\n",
        "cat\r\ndog\r\nbig cow\r\n\r\n\r\n",
        "cat\rdog\rbig cow",
        "cat \ndog\t\nbig cow\n \n",
        '["cat", "dog", "big cow"]',
        '{"0": "cat", "2": "big cow", "1": "dog"}',
        '{"1": "cat", "3": "big cow", "2": "dog"}',
        '{"dog": 1, "cat": 0, "big cow": 2}',
        '{"id2label": {"0": "cat", "1": "dog", "2": "big cow"}, "label2id": {}}',
        "0,cat\n1,dog\n2,big cow\n",
        "cat,0\nbig cow,2\ndog,1\n",
        "1;cat\n2;dog\n3;big cow\n",
        "0\tcat\n1\tdog\n2\tbig cow\n",
        "0: cat\n1: dog\n2: big cow\n",
        ",name\n0,cat\n1,dog\n2,big cow\n",
        'id;"label";"images"\n2;"big cow";"7"\n0;"cat";"5"\n1;"dog";"6"\n',
        "class_name,images\ncat,12\ndog,12\nbig cow,9\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_files_of_names(text, encoding):
    assert read_names(text.encode(encoding)) == ("cat", "dog", "big cow")
    assert read_names(text.encode(encoding), table=True) == ("cat", "dog", "big cow")


def test_a_header_of_one_column_is_one_in_a_table_only():
    assert read_names(b'name\ncat\n"big, red cow"\n', table=True) == ("cat", "big, red cow")
    assert read_names(b"name\ncat\n") == ("name", "cat")


def test_names_with_commas_and_unusual_characters_stay_whole():
    names = ("tench, Tinca tinca", "5 euro", "Kuh\x85\u2028mit", "r\u00f6d")
    assert read_names("\n".join(names).encode()) == names
    assert read_names("\n".join(f"{i},{name}" for i, name in enumerate(names)).encode()) == names
    assert read_names(json.dumps(names).encode()) == names


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("cat\nk\u00e4se\n".encode("latin-1"), "cannot be read as UTF-8, in line 2; save it as UTF-8"),
        ("cat\ndog\n".encode("utf-16-le"), "zero bytes, as UTF-16 has"),
        (b"\xff\xfec\x00a", "cannot be read as UTF-16"),
        (b'["cat", ', "cannot be read as JSON"),
        (b'["cat", 3]', "expected a list of names"),
        (b'{"0": "cat", "2": "dog"}', "expected 2 indices from 0, or from 1, each once, got 0 to 2"),
        (b'{"cat": "dog"}', r"expected JSON with a list of names, \{index: name\} or \{name: index\}"),
        (b"{}", "expected JSON with a list"),
        (b"0,cat\n0,dog\n", "2 indices from 0, or from 1, each once"),
        (b"0,cat,a\n1,dog,b\n", "a header that calls one of its 3 columns name or label"),
    ],
)
def test_files_without_names(content, says):
    with pytest.raises(GradcutError, match=says) as error:
        read_names(content)
    assert "\n" not in str(error.value)
