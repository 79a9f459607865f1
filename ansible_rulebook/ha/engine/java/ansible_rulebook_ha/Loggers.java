package ansible_rulebook_ha;

import java.lang.reflect.Field;
import java.util.IdentityHashMap;
import java.util.Map;

import org.slf4j.ILoggerFactory;
import org.slf4j.LoggerFactory;
import org.slf4j.spi.LocationAwareLogger;

/**
 * How much Drools' loggers say.
 *
 * <p>They take their levels from the JVM's properties once, and have no method
 * that changes them. Loggers of another kind go on as they are.
 */
final class Loggers {

    private static final int WARN = LocationAwareLogger.WARN_INT;

    private final Map<Object, Integer> levels = new IdentityHashMap<>();

    /** Has them say nothing below a warning, until {@link #restore}. */
    synchronized void quieten() {
        ILoggerFactory factory = LoggerFactory.getILoggerFactory();
        try {
            Map<?, ?> all = (Map<?, ?>) field(factory, "loggerMap");
            for (Object each : all.values()) {
                int level = (Integer) field(each, "currentLogLevel");
                if (level < WARN) {
                    levels.putIfAbsent(each, level);
                    set(each, WARN);
                }
            }
        } catch (ReflectiveOperationException | ClassCastException other) {
            restore();
        }
    }

    synchronized void restore() {
        levels.forEach((each, level) -> {
            try {
                set(each, level);
            } catch (ReflectiveOperationException error) {
                throw new IllegalStateException(error); // it was set before
            }
        });
        levels.clear();
    }

    private static Object field(Object owner, String name)
            throws ReflectiveOperationException {
        return open(owner, name).get(owner);
    }

    private static void set(Object logger, int level)
            throws ReflectiveOperationException {
        open(logger, "currentLogLevel").setInt(logger, level);
    }

    private static Field open(Object owner, String name)
            throws ReflectiveOperationException {
        Field field = owner.getClass().getDeclaredField(name);
        field.setAccessible(true);
        return field;
    }
}
