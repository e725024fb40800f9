// What ThreadSanitizer watches: teams of threads in every phase of training, several trainers at once, and row tasks
// that are stopped or fail. Exits with 1 where threads change a bit.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <stdexcept>
#include <thread>
#include <vector>

#include "core/importance_impute.h"
#include "cpu/cpu_level.h"
#include "cpu/parallel_rows.h"
#include "cpu/trainer.h"

namespace {

using namespace vsae;

constexpr int kRows = 110, kSteps = 4;  // five samples of each are enough rows to be worked off in parts

struct Data {
    std::vector<float> x, mask;
    std::vector<std::int64_t> index;
};

// Two numbers, one attribute of three levels, and a block that is wide beside eight hidden neurons.
NetworkShape network_shape(int block) {
    NetworkShape shape;
    shape.attribute_start = {0, 1, 2, 5, 5 + block};
    shape.attribute_kind = {kNumerical, kNumerical, kCategorical, kNumerical};
    shape.groups = {{kNumerical, 1, {0, 1}}, {kCategorical, 3, {2}}, {kNumerical, block, {3}}};
    shape.latent_per_attribute = 2;
    shape.numerical_hidden = {8};
    shape.categorical_hidden = {8};
    shape.collective_hidden = {16, 16};
    shape.mask_hidden = {8};
    shape.data_hidden = {8};
    shape.selective = true;
    shape.deterministic = false;
    shape.sees_mask = true;
    shape.experts = false;
    shape.skip = true;
    shape.mask_context = false;
    shape.linear_tail = false;
    shape.noise_fill = true;
    shape.min_scale = 0.05f;
    shape.negative_slope = 0.01f;
    return shape;
}

NetworkShape product_of_experts(int block) {
    NetworkShape shape = network_shape(block);
    shape.selective = shape.sees_mask = shape.skip = shape.noise_fill = false;
    shape.experts = true;
    return shape;
}

ObjectiveSettings two_phase() { return {0, 1.0f, 0.0f, 0.0f, 25, 2, 0}; }
ObjectiveSettings hide_and_score() { return {5, 0.2f, 0.1f, 0.8f, 0, 2, 0}; }
ObjectiveSettings subsampled() { return {0, 1.0f, 0.0f, 0.0f, 0, 2, 2}; }

Data make_data(const NetworkShape& shape) {
    std::mt19937 engine(1);
    std::normal_distribution<float> normal;
    const int columns = shape.attribute_start.back();
    const auto attributes = static_cast<int>(shape.attribute_kind.size());
    Data data;
    for (int r = 0; r < kRows; ++r) {
        for (int c = 0; c < columns; ++c) data.x.push_back(normal(engine));
        for (int c = 2; c < 5; ++c) data.x[static_cast<std::size_t>(r * columns + c)] = c == 2 + r % 3 ? 1.0f : 0.0f;
        for (int a = 0; a < attributes; ++a) data.mask.push_back((r + a) % 3 ? 1.0f : 0.0f);
        data.index.push_back(kRows - 1 - r);
    }
    return data;
}

// Trains a few steps and returns parameters, moments and scores.
std::vector<float> train(const NetworkShape& shape, const ObjectiveSettings& objective, int n_threads) {
    Trainer trainer(shape, objective, kRows, 7, active_level());
    std::vector<float> state(static_cast<std::size_t>(trainer.state_size()), 0.0f);
    std::mt19937 engine(2);
    std::uniform_real_distribution<float> uniform(0.01f, 0.3f);
    trainer.export_state(state.data());
    for (float& value : state) value = uniform(engine);
    trainer.import_state(state.data(), {0, 0});
    const Data data = make_data(shape);
    for (int step = 0; step < kSteps; ++step)
        trainer.step({data.x.data(), data.mask.data(), data.index.data(), kRows},
                     objective.n_samples == 0 && step >= kSteps / 2, {1e-3f, 0.01f, objective.n_samples ? 5.0f : 0.0f},
                     n_threads);
    std::vector<double> score(kRows, 0.0);
    trainer.score({data.x.data(), data.mask.data(), nullptr, kRows}, 3, score.data());
    trainer.export_state(state.data());
    for (const double value : score) state.push_back(static_cast<float>(value));
    return state;
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

bool teams_change_no_bit(const NetworkShape& shape, const ObjectiveSettings& objective) {
    const std::vector<float> alone = train(shape, objective, 1);
    for (const float value : alone)
        if (!std::isfinite(value)) {
            std::puts("a value is not finite");
            return false;
        }
    bool equal = true;
    for (const int n_threads : {2, 3}) equal &= same(alone, train(shape, objective, n_threads));
    // Several trainers, each with a team of its own.
    std::vector<std::vector<float>> results(3);
    std::vector<std::thread> callers;
    for (std::vector<float>& result : results) callers.emplace_back([&] { result = train(shape, objective, 2); });
    for (std::thread& caller : callers) caller.join();
    for (const std::vector<float>& result : results) equal &= same(alone, result);
    return equal;
}

bool row_tasks_do_each_row_once() {
    std::vector<int> done(1000, 0);
    parallel_rows(1000, 7, 4, [&](RowTasks& tasks) {
        for (long begin, end; tasks.next(&begin, &end);)
            for (long r = begin; r < end; ++r) ++done[static_cast<std::size_t>(r)];
    });
    for (const int count : done)
        if (count != 1) return false;
    try {
        parallel_rows(1000, 7, 4, [&](RowTasks& tasks) {
            for (long begin, end; tasks.next(&begin, &end);)
                if (begin == 700) throw std::runtime_error("a row failed");
        });
        return false;
    } catch (const std::runtime_error&) {
    }
    const std::function<bool()> stop = [] { return false; };
    const bool ended =
        parallel_rows(1L << 40, 1, 3, [](RowTasks& tasks) { for (long begin, end; tasks.next(&begin, &end);); }, &stop);
    return !ended;
}

}  // namespace

int main() {
    bool good = row_tasks_do_each_row_once();
    for (const int block : {4, 40}) {
        for (const ObjectiveSettings& objective : {two_phase(), hide_and_score()})
            good &= teams_change_no_bit(network_shape(block), objective);
        good &= teams_change_no_bit(product_of_experts(block), subsampled());
    }
    std::puts(good ? "threads change no bit" : "threads CHANGE results");
    return good ? 0 : 1;
}
