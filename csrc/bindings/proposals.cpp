// propose, and the dense layers that it shares with sample_moments; vsae_fast/ops has checked the shapes.
#include "bindings/proposals.h"

#include <pybind11/stl.h>

#include <cstdint>
#include <vector>

#include "bindings/addresses.h"
#include "bindings/folded_layer.h"
#include "bindings/signals.h"
#include "cpu/cpu_level.h"
#include "cpu/propose.h"
#include "cpu/training_kernels.h"

namespace py = pybind11;

namespace vsae {

namespace {

struct ProposeArguments {
    long n_rows;
    int n_proposals, latent_per_attribute;
    std::vector<int> attribute_start;
    std::uintptr_t x, mask, fill, mean, scale, context;
    std::vector<std::vector<FoldedLayer>> own;
    std::vector<FoldedLayer> body, head, context_projection;
    float negative_slope;
};

void run(const ProposeArguments& arguments, int n_threads) {
    const TrainingKernels& kernels = training_kernels_for(active_level());
    run_interruptibly([&] {
        const float slope = arguments.negative_slope;
        std::vector<FoldedMlp> own;
        for (const std::vector<FoldedLayer>& layers : arguments.own) own.push_back(folded(kernels, layers, slope));
        const FoldedMlp body = folded(kernels, arguments.body, slope), head = folded(kernels, arguments.head, slope);
        const FoldedMlp context_projection = folded(kernels, arguments.context_projection, slope);
        return propose({kernels, arguments.n_rows, arguments.n_proposals, arguments.latent_per_attribute,
                        arguments.attribute_start, at<const float>(arguments.x), at<const float>(arguments.mask),
                        at<const float>(arguments.fill), own, body, head,
                        arguments.context_projection.empty() ? nullptr : &context_projection},
                       at<float>(arguments.mean), at<float>(arguments.scale), at<float>(arguments.context), n_threads,
                       no_signal);
    });
}

}  // namespace

void bind_proposals(py::module_& module) {
    py::class_<FoldedLayer>(module, "FoldedLayer")
        .def(py::init<std::uintptr_t, std::uintptr_t, int, int, bool>(), py::arg("weight"), py::arg("bias"),
             py::arg("n_in"), py::arg("n_out"), py::arg("activation"));

    py::class_<ProposeArguments>(module, "ProposeArguments")
        .def(py::init([] { return new ProposeArguments{}; }))
        .def_readwrite("n_rows", &ProposeArguments::n_rows)
        .def_readwrite("n_proposals", &ProposeArguments::n_proposals)
        .def_readwrite("latent_per_attribute", &ProposeArguments::latent_per_attribute)
        .def_readwrite("attribute_start", &ProposeArguments::attribute_start)
        .def_readwrite("x", &ProposeArguments::x)
        .def_readwrite("mask", &ProposeArguments::mask)
        .def_readwrite("fill", &ProposeArguments::fill)
        .def_readwrite("mean", &ProposeArguments::mean)
        .def_readwrite("scale", &ProposeArguments::scale)
        .def_readwrite("context", &ProposeArguments::context)
        .def_readwrite("own", &ProposeArguments::own)
        .def_readwrite("body", &ProposeArguments::body)
        .def_readwrite("head", &ProposeArguments::head)
        .def_readwrite("context_projection", &ProposeArguments::context_projection)
        .def_readwrite("negative_slope", &ProposeArguments::negative_slope);
    module.def("propose", &run, py::arg("arguments"), py::arg("n_threads"));
}

}  // namespace vsae
