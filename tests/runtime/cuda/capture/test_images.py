"""Images are noted as CUPTI tells of them, and belong to the module that the driver's call returned."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from forerun.captured.graph import digest_of
from forerun.runtime.cuda.capture import cupti as cupti_module
from forerun.runtime.cuda.capture import images
from forerun.runtime.cuda.capture.copies import CopyRecorder
from forerun.runtime.cuda.capture.cupti import CallbackData, Subscription
from forerun.runtime.cuda.capture.images import ImageRecorder
from forerun.runtime.cuda.driver.driver import Driver
from forerun.support.diagnostics import Unsupported
from tests.runtime.cuda.capture.fake import FakeCuda

LOAD_DATA, UNLOAD, GET_FUNCTION, COPY_ASYNC = 19, 22, 683, 306


class Cupti:
    """Calls back as CUPTI does."""

    def __init__(self, recorder: ImageRecorder) -> None:
        self.subscription = Subscription(recorder)
        self.kept: list[Any] = []

    def loaded(self, code: bytes) -> None:
        data = ctypes.create_string_buffer(code, len(code))
        module = images._ModuleData(1, len(code), ctypes.addressof(data))
        resource = images._ResourceData(None, None, ctypes.addressof(module))
        self.subscription.called(None, 3, 6, ctypes.addressof(resource))

    def call(self, number: int, site: int, handle: int, result: int = 0) -> None:
        out, status = ctypes.c_uint64(handle), ctypes.c_int(result)
        first = ctypes.c_uint64(handle if number == UNLOAD else ctypes.addressof(out))
        data = CallbackData(site, b"", ctypes.addressof(first), ctypes.addressof(status))
        self.subscription.called(None, 1, number, ctypes.addressof(data))

    def load(self, code: bytes, handle: int, result: int = 0) -> None:
        self.call(LOAD_DATA, 0, 0)
        self.loaded(code)
        self.call(LOAD_DATA, 1, handle, result)


@pytest.fixture
def recorder() -> ImageRecorder:
    return ImageRecorder()


def test_a_module_has_the_image_that_was_loaded_within_its_call(recorder: ImageRecorder) -> None:
    cupti = Cupti(recorder)
    cupti.load(b"one", 11)
    cupti.load(b"two", 12)
    assert recorder.by_module == {11: digest_of(b"one"), 12: digest_of(b"two")}
    assert recorder.images == {digest_of(b"one"): b"one", digest_of(b"two"): b"two"}
    assert recorder.unclaimed == {}


def test_a_handle_that_is_given_again_stands_for_the_newer_image(recorder: ImageRecorder) -> None:
    cupti = Cupti(recorder)
    cupti.load(b"old", 11)
    cupti.call(UNLOAD, 0, 11)
    assert recorder.by_module == {}
    cupti.load(b"new", 11)
    assert recorder.by_module == {11: digest_of(b"new")}


def test_what_fails_to_load_belongs_to_no_module(recorder: ImageRecorder) -> None:
    Cupti(recorder).load(b"one", 11, result=200)
    assert recorder.by_module == {}
    assert list(recorder.unclaimed) == [digest_of(b"one")]


def test_what_libraries_load_at_first_use_is_not_claimed(recorder: ImageRecorder) -> None:
    cupti = Cupti(recorder)
    cupti.call(GET_FUNCTION, 0, 0)
    cupti.loaded(b"lazy")
    cupti.call(GET_FUNCTION, 1, 77)
    assert recorder.by_module == {}
    assert list(recorder.unclaimed) == [digest_of(b"lazy")]


def test_two_images_in_one_call_are_nobodys(recorder: ImageRecorder) -> None:
    cupti = Cupti(recorder)
    cupti.call(LOAD_DATA, 0, 0)
    cupti.loaded(b"one")
    cupti.loaded(b"two")
    cupti.call(LOAD_DATA, 1, 11)
    assert recorder.by_module == {}
    assert len(recorder.unclaimed) == 2


def test_errors_in_callbacks_are_kept(recorder: ImageRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "digest_of", lambda code: 1 / 0)
    Cupti(recorder).loaded(b"one")
    assert recorder.failures == ["ZeroDivisionError: division by zero"]


class Library:
    def __init__(self, result: int, refused: int = 0) -> None:
        self.cuptiSubscribe = lambda *_: result
        self.cuptiEnableCallback = lambda _on, _subscriber, _domain, number: int(number == refused)
        self.cuptiUnsubscribe = lambda *_: 0


@pytest.mark.parametrize(("result", "message"), [(39, "a profiler is at work"), (1, "cuptiSubscribe fails with 1")])
def test_who_holds_cupti_is_told(monkeypatch: pytest.MonkeyPatch, result: int, message: str) -> None:
    monkeypatch.setattr(cupti_module, "find_cupti", lambda: "libcupti.so")
    monkeypatch.setattr(cupti_module.ctypes, "CDLL", lambda path: Library(result))
    with pytest.raises(Unsupported, match=message), Subscription(ImageRecorder()).recording():
        pass


def test_without_cupti(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cupti_module, "find_cupti", lambda: None)
    with pytest.raises(Unsupported, match="there is no CUPTI") as caught, Subscription(ImageRecorder()).recording():
        pass
    assert "nvidia-cuda-cupti" in str(caught.value)


def test_a_session_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cupti_module, "find_cupti", lambda: "libcupti.so")
    monkeypatch.setattr(cupti_module.ctypes, "CDLL", lambda path: Library(0))
    with Subscription(ImageRecorder()).recording() as subscription:
        assert subscription._cupti is not None
    assert subscription._cupti is None


@pytest.mark.parametrize(("refused", "is_required"), [(UNLOAD, True), (COPY_ASYNC, False)])
def test_callbacks_that_cupti_does_not_have(monkeypatch: pytest.MonkeyPatch, refused: int, is_required: bool) -> None:
    monkeypatch.setattr(cupti_module, "find_cupti", lambda: "libcupti.so")
    monkeypatch.setattr(cupti_module.ctypes, "CDLL", lambda path: Library(0, refused))
    subscription = Subscription(ImageRecorder(), CopyRecorder(Driver(FakeCuda())))
    if is_required:
        with pytest.raises(Unsupported, match="cuptiEnableCallback fails with 1"), subscription.recording():
            pass
        assert subscription._cupti is None
    else:
        with subscription.recording():
            assert subscription._cupti is not None
