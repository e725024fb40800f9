// Kernels that run for long ask this, with the GIL released, whether to go on.
#pragma once

#include <pybind11/pybind11.h>

namespace vsae {

// False where a signal handler raised (Ctrl-C); the exception is set.
inline bool no_signal() {
    const pybind11::gil_scoped_acquire acquire;
    return PyErr_CheckSignals() == 0;
}

// Runs work() with the GIL released; where it returns false, because no_signal did, the handler's exception is thrown.
template <class Work>
void run_interruptibly(Work work) {
    bool done;
    {
        const pybind11::gil_scoped_release release;
        done = work();
    }
    if (!done) throw pybind11::error_already_set();
}

}  // namespace vsae
