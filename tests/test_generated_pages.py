"""Pages whose figures come from the result files say what those files say."""

import pytest

from bench import tables


@pytest.mark.parametrize("page", tables.PAGES, ids=lambda page: page.name)
def test_page_follows_from_the_result_files(page):
    assert page.read_text() == tables.PAGES[page](), "run make tables"
