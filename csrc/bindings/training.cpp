// The trainer and its random streams; vsae_fast/native_training.py owns the tensors behind the addresses.
#include "bindings/training.h"

#include <pybind11/stl.h>

#include <cstdint>
#include <string>
#include <vector>

#include "bindings/addresses.h"
#include "cpu/cpu_level.h"
#include "cpu/trainer.h"
#include "cpu/training_kernels.h"

namespace py = pybind11;

namespace vsae {

namespace {

Rows rows_at(std::uintptr_t x, std::uintptr_t mask, std::uintptr_t index, int n) {
    return {reinterpret_cast<const float*>(x), reinterpret_cast<const float*>(mask),
            reinterpret_cast<const std::int64_t*>(index), n};
}

}  // namespace

void bind_training(py::module_& module) {
    py::class_<AttributeGroup>(module, "AttributeGroup")
        .def(py::init<int, int, std::vector<int>>(), py::arg("kind"), py::arg("width"), py::arg("attributes"));

    py::class_<NetworkShape>(module, "NetworkShape")
        .def(py::init<>())
        .def_readwrite("attribute_start", &NetworkShape::attribute_start)
        .def_readwrite("attribute_kind", &NetworkShape::attribute_kind)
        .def_readwrite("groups", &NetworkShape::groups)
        .def_readwrite("latent_per_attribute", &NetworkShape::latent_per_attribute)
        .def_readwrite("numerical_hidden", &NetworkShape::numerical_hidden)
        .def_readwrite("categorical_hidden", &NetworkShape::categorical_hidden)
        .def_readwrite("collective_hidden", &NetworkShape::collective_hidden)
        .def_readwrite("mask_hidden", &NetworkShape::mask_hidden)
        .def_readwrite("data_hidden", &NetworkShape::data_hidden)
        .def_readwrite("selective", &NetworkShape::selective)
        .def_readwrite("deterministic", &NetworkShape::deterministic)
        .def_readwrite("sees_mask", &NetworkShape::sees_mask)
        .def_readwrite("experts", &NetworkShape::experts)
        .def_readwrite("skip", &NetworkShape::skip)
        .def_readwrite("mask_context", &NetworkShape::mask_context)
        .def_readwrite("linear_tail", &NetworkShape::linear_tail)
        .def_readwrite("noise_fill", &NetworkShape::noise_fill)
        .def_readwrite("min_scale", &NetworkShape::min_scale)
        .def_readwrite("negative_slope", &NetworkShape::negative_slope);

    py::class_<ObjectiveSettings>(module, "ObjectiveSettings")
        .def(py::init<>())
        .def_readwrite("n_samples", &ObjectiveSettings::n_samples)
        .def_readwrite("visible_weight", &ObjectiveSettings::visible_weight)
        .def_readwrite("hidden_low", &ObjectiveSettings::hidden_low)
        .def_readwrite("hidden_high", &ObjectiveSettings::hidden_high)
        .def_readwrite("n_unobserved_samples", &ObjectiveSettings::n_unobserved_samples)
        .def_readwrite("n_validation_draws", &ObjectiveSettings::n_validation_draws)
        .def_readwrite("n_subsets", &ObjectiveSettings::n_subsets);

    py::class_<Trainer>(module, "Trainer")
        .def(py::init([](const NetworkShape& shape, const ObjectiveSettings& objective, int max_rows,
                         std::uint64_t seed) { return new Trainer(shape, objective, max_rows, seed, active_level()); }),
             py::arg("shape"), py::arg("objective"), py::arg("max_rows"), py::arg("seed"))
        .def("import_parameters",
             [](Trainer& trainer, const std::vector<std::uintptr_t>& addresses) {
                 trainer.import_parameters(pointers<const float>(addresses));
             })
        .def("export_parameters",
             [](const Trainer& trainer, const std::vector<std::uintptr_t>& addresses) {
                 trainer.export_parameters(pointers<float>(addresses));
             })
        .def("state_size", &Trainer::state_size)
        .def(
            "export_state",
            [](const Trainer& trainer, std::uintptr_t state) {
                const Progress progress = trainer.export_state(reinterpret_cast<float*>(state));
                return std::make_pair(progress.steps, progress.next_stream);
            },
            py::arg("state"), "Returns the number of steps and that of the next stream.")
        .def(
            "import_state",
            [](Trainer& trainer, std::uintptr_t state, long steps, std::uint64_t next_stream) {
                trainer.import_state(reinterpret_cast<const float*>(state), {steps, next_stream});
            },
            py::arg("state"), py::arg("steps"), py::arg("next_stream"))
        .def(
            "steps",
            [](Trainer& trainer, std::uintptr_t x, std::uintptr_t mask, const std::vector<std::uintptr_t>& indices,
               const std::vector<int>& sizes, bool second_phase, const std::vector<float>& learning_rates,
               float weight_decay, float clip_norm, int n_threads) {
                const py::gil_scoped_release release;
                std::vector<double> losses;
                for (std::size_t i = 0; i < sizes.size(); ++i)
                    losses.push_back(trainer.step(rows_at(x, mask, indices.at(i), sizes[i]), second_phase,
                                                  {learning_rates.at(i), weight_decay, clip_norm}, n_threads));
                return losses;
            },
            py::arg("x"), py::arg("mask"), py::arg("indices"), py::arg("sizes"), py::arg("second_phase"),
            py::arg("learning_rates"), py::arg("weight_decay"), py::arg("clip_norm"), py::arg("n_threads"),
            "One after the other, each on the rows at an address of indices; returns the loss before each.")
        .def(
            "score",
            [](Trainer& trainer, std::uintptr_t x, std::uintptr_t mask, int n, std::uint64_t seed,
               std::uintptr_t score) {
                const py::gil_scoped_release release;
                trainer.score(rows_at(x, mask, 0, n), seed, reinterpret_cast<double*>(score));
            },
            py::arg("x"), py::arg("mask"), py::arg("n"), py::arg("seed"), py::arg("score"));

    const auto filler = [](auto member) {
        return [member](std::uint64_t seed, std::uint64_t number, std::uintptr_t out, long floats) {
            const TrainingKernels& kernels = training_kernels_for(active_level());
            (kernels.*member)(seed, number, reinterpret_cast<float*>(out), floats);
        };
    };
    module.def("fill_uniform", filler(&TrainingKernels::fill_uniform), py::arg("seed"), py::arg("number"),
               py::arg("address"), py::arg("floats"));
    module.def("fill_normal", filler(&TrainingKernels::fill_normal), py::arg("seed"), py::arg("number"),
               py::arg("address"), py::arg("floats"));
}

}  // namespace vsae
