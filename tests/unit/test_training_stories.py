"""Pictures by story: what a manifest says, what it may not say, and who is held back."""

from __future__ import annotations

import json

import numpy as np
import pytest

from serving.errors import InvalidInput, NotFound
from tests.unit import picture_books
from training.stories import attributions, digest, read_stories, split


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return picture_books.make(tmp_path_factory.mktemp("books") / "train", stories=4, pages=11)


def rewritten(folder, tmp_path, **changes):
    """A folder above whose manifest has one entry of `folder`, changed."""
    entry = json.loads((folder / "manifest.json").read_text())[0]
    other = folder.parent / tmp_path.name
    other.mkdir()
    (other / "manifest.json").write_text(json.dumps([entry | changes]))
    return other


def test_pages_come_in_the_order_of_their_numbers(folder):
    stories = read_stories(folder)
    assert [story.name for story in stories] == ["tiny/0000", "tiny/0001", "tiny/0002", "tiny/0003"]
    assert [picture.page for picture in stories[0].pictures] == [str(n) for n in range(1, 12)]


def test_a_picture_loads_as_the_pixels_that_were_written(folder):
    picture = read_stories(folder)[2].pictures[4]
    np.testing.assert_array_equal(picture.load(), picture_books.page_of(2, 5))


def test_a_file_may_be_named_relative_to_the_folder_itself(folder, tmp_path):
    other = rewritten(folder, tmp_path, file="p.png")
    (other / "p.png").write_bytes(read_stories(folder)[0].pictures[0].path.read_bytes())
    assert read_stories(other)[0].pictures[0].path == other / "p.png"


def test_an_entry_without_an_episode_belongs_to_no_story(folder, tmp_path):
    assert read_stories(rewritten(folder, tmp_path, episode=None)) == ()


def test_an_entry_without_a_page_is_the_last(folder, tmp_path):
    entries = json.loads((folder / "manifest.json").read_text())[:3]
    del entries[0]["page"]
    other = folder.parent / tmp_path.name
    other.mkdir()
    (other / "manifest.json").write_text(json.dumps(entries))
    assert [picture.page for picture in read_stories(other)[0].pictures] == ["9", "10", ""]


@pytest.mark.parametrize("file", ["/etc/passwd", "../../secret.png", "train/../../x.png"])
def test_a_file_outside_the_folder_is_refused(folder, tmp_path, file):
    with pytest.raises(InvalidInput, match="inside the folder"):
        read_stories(rewritten(folder, tmp_path, file=file))


def test_a_missing_picture_is_named(folder, tmp_path):
    with pytest.raises(NotFound, match=r"train/gone\.png"):
        read_stories(rewritten(folder, tmp_path, file="train/gone.png"))


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(NotFound, match=r"manifest\.json"):
        read_stories(tmp_path)


@pytest.mark.parametrize("text", ["{", "{}", "[1]", '[{"file": "x", "episode": "1"}]'])
def test_a_manifest_of_another_form_is_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(InvalidInput) as caught:
        read_stories(tmp_path)
    assert caught.value.reason == "BAD_MANIFEST"


def test_a_file_that_is_no_picture_is_named_when_it_is_loaded(folder, tmp_path):
    other = rewritten(folder, tmp_path, file="p.png")
    (other / "p.png").write_text("hello")
    with pytest.raises(InvalidInput, match=r"p\.png.*plain text"):
        read_stories(other)[0].pictures[0].load()


def test_a_split_keeps_stories_whole(folder):
    stories = read_stories(folder)
    train, held = split(stories, 0.25)
    assert len(held) == 1
    assert sorted([*train, *held], key=lambda story: story.name) == list(stories)


def test_a_split_is_the_same_each_time(folder):
    stories = read_stories(folder)
    assert split(stories, 0.25, seed=3) == split(stories[::-1][::-1], 0.25, seed=3)


def test_other_seeds_hold_other_stories_back(folder):
    stories = read_stories(folder)
    assert len({split(stories, 0.25, seed=seed)[1][0].name for seed in range(12)}) > 1


def test_a_split_of_one_story_holds_nothing_back(folder):
    one = read_stories(folder)[:1]
    assert split(one) == (one, ())


def test_a_share_out_of_range_is_refused(folder):
    with pytest.raises(InvalidInput, match="share"):
        split(read_stories(folder), 1.0)


def test_each_attribution_is_listed_once(folder):
    assert attributions(read_stories(folder)) == ["Book 0", "Book 1", "Book 2", "Book 3"]


def test_the_other_pages_of_a_story_leave_out_the_page_itself(folder):
    story = read_stories(folder)[0]
    assert story.others(story.pictures[3]) == story.pictures[:3] + story.pictures[4:]


def test_a_digest_tells_other_pictures_apart(folder):
    stories = read_stories(folder)
    assert digest(stories) == digest(read_stories(folder)) != digest(stories[:-1])
