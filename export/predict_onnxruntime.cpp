// Run a graph of a bundle with ONNX Runtime's C++ interface alone:
//     g++ -std=c++17 -O2 predict_onnxruntime.cpp -I INCLUDE -L LIB -l onnxruntime -o predict
//     ./predict BUNDLE/model.int8.onnx SOUND.wav [TOP]
//
// INCLUDE holds onnxruntime_cxx_api.h (Debian 13: libonnxruntime-dev puts it into /usr/include/onnxruntime), LIB
// holds libonnxruntime.so. Class names, sample rate and window lie in the graph. The sound is a 16-bit mono WAV file
// at that rate. It is cut into windows that overlap by half; those 60 dB quieter than the loudest one don't vote.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include <onnxruntime_cxx_api.h>

// Samples of a 16-bit mono WAV file at ±1; its rate in Hz goes to `rate`.
std::vector<float> read_wav(const std::string& path, int64_t& rate) {
    std::ifstream file(path, std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
    auto number = [&](size_t at, size_t width) {  // little-endian, as the machine is taken to be
        uint32_t value = 0;
        if (at + width > bytes.size()) throw std::runtime_error(path + " ends too early");
        std::memcpy(&value, &bytes[at], width);
        return value;
    };
    if (bytes.size() < 12 || std::memcmp(&bytes[8], "WAVE", 4)) throw std::runtime_error(path + " is no WAV file");
    std::vector<float> samples;
    for (size_t at = 12; at + 8 <= bytes.size(); at += 8 + number(at + 4, 4) + number(at + 4, 4) % 2) {
        if (std::memcmp(&bytes[at], "fmt ", 4) == 0) {
            rate = number(at + 12, 4);
            const bool right = number(at + 10, 2) == 1 && number(at + 22, 2) == 16;
            if (!right) throw std::runtime_error(path + " is not 16-bit mono");
        } else if (std::memcmp(&bytes[at], "data", 4) == 0) {
            const size_t end = std::min(bytes.size(), at + 8 + number(at + 4, 4));
            for (size_t i = at + 8; i + 1 < end; i += 2) samples.push_back(int16_t(number(i, 2)) / 32768.0f);
        }
    }
    if (samples.empty()) throw std::runtime_error(path + " holds no samples");
    return samples;
}

// A character as UTF-8.
std::string utf8(unsigned code) {
    if (code < 0x80) return {char(code)};
    if (code < 0x800) return {char(0xC0 | code >> 6), char(0x80 | (code & 0x3F))};
    return {char(0xE0 | code >> 12), char(0x80 | (code >> 6 & 0x3F)), char(0x80 | (code & 0x3F))};
}

// The names in a JSON list of strings, as they lie in the graph: ["siren", "caf\u00e9"].
std::vector<std::string> names_of(const std::string& json) {
    std::vector<std::string> names;
    bool inside = false;
    for (size_t i = 0; i < json.size(); ++i) {
        if (json[i] == '"') {
            if ((inside = !inside)) names.emplace_back();
        } else if (inside && json[i] == '\\' && json.at(++i) == 'u') {
            names.back() += utf8(std::stoul(json.substr(i + 1, 4), nullptr, 16));
            i += 4;
        } else if (inside) {
            names.back() += json[i];
        }
    }
    return names;
}

void run(const char* graph, const char* sound, size_t top) {
    Ort::Env env(ORT_LOGGING_LEVEL_ERROR);
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(1);
    Ort::Session session(env, graph, options);
    Ort::AllocatorWithDefaultOptions allocator;
    auto fact = [&](const char* key) {
        auto text = session.GetModelMetadata().LookupCustomMetadataMapAllocated(key, allocator);
        if (!text) throw std::runtime_error(std::string(graph) + " lacks " + key);
        return std::string(text.get());
    };
    const std::vector<std::string> labels = names_of(fact("edgeaudio.labels"));
    const int64_t wanted = std::stoll(fact("edgeaudio.sample_rate"));
    int64_t rate = 0, window = session.GetInputTypeInfo(0).GetTensorTypeAndShapeInfo().GetShape().at(1);
    std::vector<float> samples = read_wav(sound, rate);
    if (rate != wanted) throw std::runtime_error(std::string(sound) + " must have " + std::to_string(wanted) + " Hz");
    const int64_t hop = window / 2, length = static_cast<int64_t>(samples.size());
    const int64_t count = 1 + (length > window ? (length - window + hop - 1) / hop : 0);
    samples.resize((count - 1) * hop + window);  // the last window is filled up with zeros
    std::vector<double> power, sums(labels.size());
    for (auto start = samples.begin(); power.size() < size_t(count); start += hop)
        power.push_back(std::inner_product(start, start + window, start, 0.0));
    const double silence = 1e-6 * *std::max_element(power.begin(), power.end());
    const char *inputs[] = {"waveform"}, *outputs[] = {"scores"};
    const int64_t shape[] = {1, window};
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    int audible = 0;
    for (int64_t i = 0; i < count; ++i) {
        if (power[i] < silence) continue;
        auto input = Ort::Value::CreateTensor<float>(memory, samples.data() + i * hop, window, shape, 2);
        auto result = session.Run(Ort::RunOptions{nullptr}, inputs, &input, 1, outputs, 1);
        const float* scores = result[0].GetTensorData<float>();
        for (size_t k = 0; k < labels.size(); ++k) sums[k] += scores[k];
        ++audible;
    }
    std::vector<size_t> order(labels.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return sums[a] > sums[b]; });
    for (size_t k = 0; k < std::min(top, order.size()); ++k)
        std::printf("%s %.6f\n", labels[order[k]].c_str(), sums[order[k]] / audible);
}

int main(int count, char** words) try {
    if (count < 3) return std::fprintf(stderr, "usage: %s MODEL.onnx SOUND.wav [TOP]\n", words[0]), 2;
    run(words[1], words[2], count > 3 ? std::stoul(words[3]) : 3);
} catch (const std::exception& error) {
    return std::fprintf(stderr, "%s\n", error.what()), 1;
}
