package ansible_rulebook_ha;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.Map;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.core.StreamWriteConstraints;
import com.fasterxml.jackson.core.json.JsonWriteFeature;
import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.JsonSerializer;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializerProvider;
import com.fasterxml.jackson.databind.module.SimpleModule;
import org.kie.api.prototype.Prototype;
import org.kie.api.prototype.PrototypeFactInstance;

/**
 * JSON in plain ASCII: jpy cuts characters beyond 16 bits short, and a
 * database may have an encoding that lacks some.
 */
final class Json {

    private static final int LEVELS = 1_100; // Drools' reader takes 1,000
    private static final ObjectMapper MAPPER = new ObjectMapper(
        JsonFactory.builder()
            .enable(JsonWriteFeature.ESCAPE_NON_ASCII)
            .streamReadConstraints(StreamReadConstraints.builder()
                .maxNestingDepth(LEVELS).maxStringLength(Integer.MAX_VALUE)
                .build())
            .streamWriteConstraints(StreamWriteConstraints.builder()
                .maxNestingDepth(LEVELS).build())
            .build());
    private static final TypeReference<Map<String, Object>> MAP =
        new TypeReference<>() { };

    static {
        SimpleModule module = new SimpleModule();
        module.addSerializer(PrototypeFactInstance.class, new Fields());
        module.addSerializer(Prototype.UndefinedValue.class, new Undefined());
        MAPPER.registerModule(module);
    }

    private Json() { }

    static String text(Object value) {
        try {
            return MAPPER.writeValueAsString(value);
        } catch (JsonProcessingException error) {
            throw new UncheckedIOException(error);
        }
    }

    static Map<String, Object> map(String text) {
        try {
            return MAPPER.readValue(text, MAP);
        } catch (JsonProcessingException error) {
            throw new UncheckedIOException(error);
        }
    }

    /** An event or a fact within another is what is in it. */
    private static final class Fields
            extends JsonSerializer<PrototypeFactInstance> {
        @Override
        public void serialize(
                PrototypeFactInstance value, JsonGenerator to,
                SerializerProvider provider) throws IOException {
            to.writePOJO(value.asMap());
        }
    }

    private static final class Undefined
            extends JsonSerializer<Prototype.UndefinedValue> {
        @Override
        public void serialize(
                Prototype.UndefinedValue value, JsonGenerator to,
                SerializerProvider provider) throws IOException {
            to.writeNull();
        }
    }
}
